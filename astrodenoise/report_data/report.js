(() => {
  'use strict';
  const about = JSON.parse(document.getElementById('about').textContent);
  const byId = (id) => document.getElementById(id);
  const stage = byId('stage'), canvas = byId('canvas'), divider = byId('divider');
  const context = canvas.getContext('2d');
  const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

  // Look -----------------------------------------------------------------------------------------

  const theme = byId('theme');
  const wear = (name) => {
    if (name === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    theme.value = name;
  };
  try { wear(localStorage.getItem('astrodenoise-look') || 'auto'); } catch { wear('auto'); }
  theme.addEventListener('change', () => {
    wear(theme.value);
    try { localStorage.setItem('astrodenoise-look', theme.value); } catch { /* kept for this visit */ }
  });

  // Tabs of planes -------------------------------------------------------------------------------

  for (const tab of document.querySelectorAll('.tabs button')) {
    tab.addEventListener('click', () => {
      for (const other of document.querySelectorAll('.tabs button')) {
        const chosen = other === tab;
        other.setAttribute('aria-pressed', chosen);
        byId(other.dataset.shows).hidden = !chosen;
      }
    });
  }

  // Pixels ---------------------------------------------------------------------------------------

  const bytesOf = (text) => {
    const binary = atob(text), bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  };

  const inflated = async (id) => {
    const node = byId(id), stream = new DecompressionStream('deflate');
    const writer = stream.writable.getWriter();
    writer.write(bytesOf(node.textContent));
    writer.close();
    node.textContent = '';
    return new Uint8Array(await new Response(stream.readable).arrayBuffer());
  };

  const valuesOf = (step) => {
    const table = new Float32Array(65536);
    for (let i = 0; i < 65536; i++) table[i] = about.soft * Math.sinh((i - 32768) * step / about.soft);
    table[0] = NaN;
    return table;
  };

  const unpack = async (number, scene, name) => {
    const bytes = await inflated(`pixels-${number}-${name}`);
    const size = scene.width * scene.height, count = about.planes * size;
    const table = valuesOf(about.steps[name] / scene.bin);
    const planes = [];
    for (let p = 0, at = 0; p < about.planes; p++) {
      const plane = new Float32Array(size);
      for (let y = 0, i = 0; y < scene.height; y++) {
        let code = 0;
        for (let x = 0; x < scene.width; x++, i++, at++) {
          const word = ((bytes[at] | bytes[count + at] << 8) - 32896) & 65535;
          code = name === 'residual' ? word : (code + word) & 65535;
          plane[i] = table[code ^ 32768];
        }
      }
      planes.push(plane);
    }
    return planes;
  };

  // each level has half the size of the one before, by means
  const halved = (plane, width, height) => {
    const w = Math.max(width >> 1, 1), h = Math.max(height >> 1, 1), half = new Float32Array(w * h);
    for (let y = 0; y < h; y++) {
      const row = 2 * y * width, next = Math.min(2 * y + 1, height - 1) * width;
      for (let x = 0; x < w; x++) {
        const a = 2 * x, b = Math.min(a + 1, width - 1);
        half[y * w + x] = (plane[row + a] + plane[row + b] + plane[next + a] + plane[next + b]) / 4;
      }
    }
    return half;
  };

  const pyramid = (scene, layers) => {
    const levels = [{width: scene.width, height: scene.height, layers}];
    for (let last = levels[0]; Math.min(last.width, last.height) > 64; last = levels.at(-1)) {
      const next = {width: last.width >> 1, height: last.height >> 1, layers: {}};
      for (const [name, planes] of Object.entries(last.layers)) {
        next.layers[name] = planes.map((plane) => halved(plane, last.width, last.height));
      }
      levels.push(next);
    }
    return levels;
  };

  // State ----------------------------------------------------------------------------------------

  const scenes = about.scenes.map((scene) => ({...scene, levels: null}));
  const view = {scene: 0, x: 0, y: 0, zoom: 1, split: 0.5, plane: 0, mark: null, blink: 0, fit: true};
  const LAYERS = {noisy: 'noisy', denoised: 'denoised', residual: 'residual'};
  if (about.layers.includes('error')) LAYERS.error = 'predicted error';
  if (about.layers.includes('truth')) {
    LAYERS.truth = 'truth';
    LAYERS.wrong = 'denoised − truth';
  }
  for (const [id, chosen] of [['left', 'noisy'], ['right', 'denoised']]) {
    for (const [value, text] of Object.entries(LAYERS)) byId(id).add(new Option(text, value));
    byId(id).value = chosen;
  }
  if (about.black) byId('stretch').value = 'linear';
  const strength = () => Number(byId('strength').value) / 100;
  const shown = () => (about.colour ? [0, 1, 2] : [view.plane]);

  // Stretch --------------------------------------------------------------------------------------

  const NEAR = 64; // sigma up to which the finer table holds
  const tableOf = (black, white, curve) => {
    const size = 32768, mid = Math.min(NEAR, white);
    const fine = new Uint8Array(size + 1), coarse = new Uint8Array(size + 1);
    for (let i = 0; i <= size; i++) {
      fine[i] = 255.999 * clamp(curve(black + (mid - black) * i / size), 0, 1);
      coarse[i] = 255.999 * clamp(curve(mid + (white - mid) * i / size), 0, 1);
    }
    const toFine = size / Math.max(mid - black, 1e-9), toCoarse = size / Math.max(white - mid, 1e-9);
    return (u) => {
      if (!(u > black)) return 0;
      if (u < mid) return fine[(u - black) * toFine | 0];
      return u < white ? coarse[(u - mid) * toCoarse | 0] : coarse[size];
    };
  };

  const stretchOf = (p, kind) => {
    const bright = (Number(byId('brightness').value) - 50) / 50, sigma = about.sigma[p];
    const [, , , high, top] = about.quantiles[p];
    if (kind === 'linear') {
      const black = about.black ? about.black[p] : -3 * sigma;
      const end = about.black ? about.white[p] : Math.max(high, 6 * sigma);
      const white = black + (end - black) * 10 ** -(1.5 * bright);
      return tableOf(black, white, (u) => (u - black) / (white - black));
    }
    const black = -3 * sigma, white = Math.max(top, 10 * sigma);
    if (kind === 'asinh') {
      const soft = 3 * sigma * 10 ** (-1.5 * bright), f = (u) => Math.asinh(u / soft);
      return tableOf(black, white, (u) => (f(u) - f(black)) / (f(white) - f(black)));
    }
    // the sky comes to a quarter of the range, by the midtones transfer function
    const sky = (about.quantiles[p][1] - black) / (white - black);
    const target = 0.25 * 2.4 ** bright;
    const m = sky * (target - 1) / ((2 * target - 1) * sky - target);
    return tableOf(black, white, (u) => {
      const v = (u - black) / (white - black);
      return (m - 1) * v / ((2 * m - 1) * v - m);
    });
  };

  const toneOf = (name, p) => {
    const sigma = about.sigma[p];
    if (name === 'residual' || name === 'wrong') {
      const reach = 4 * sigma;
      return (u) => (u === u ? clamp(128 + 128 * u / reach, 0, 255) : 0);
    }
    if (name === 'error') return (u) => clamp(256 * u / (1.25 * sigma), 0, 255);
    return stretchOf(p, byId('stretch').value);
  };

  // Drawing --------------------------------------------------------------------------------------

  const valueAt = (name, layers, p, kept) => {
    const den = layers.denoised[p], res = layers.residual[p];
    if (name === 'noisy') return (i) => den[i] + res[i];
    if (name === 'denoised') return kept ? (i) => den[i] + kept * res[i] : (i) => den[i];
    if (name === 'residual') return (i) => (1 - kept) * res[i];
    if (name === 'error') { const err = layers.error[p]; return (i) => err[i]; }
    const truth = layers.truth[p];
    if (name === 'truth') return (i) => truth[i];
    return (i) => den[i] + kept * res[i] - truth[i];
  };

  const buffer = document.createElement('canvas');
  const paint = (name, level, box) => {
    const image = new ImageData(box.w, box.h), pixels = image.data, kept = 1 - strength();
    shown().forEach((p, channel) => {
      const value = valueAt(name, level.layers, p, kept), tone = toneOf(name, p);
      for (let y = 0, at = channel; y < box.h; y++) {
        let i = (box.y + y) * level.width + box.x;
        for (let x = 0; x < box.w; x++, i++, at += 4) pixels[at] = tone(value(i));
      }
    });
    const grey = shown().length === 1;
    for (let at = 0; at < pixels.length; at += 4) {
      if (grey) pixels[at + 1] = pixels[at + 2] = pixels[at];
      pixels[at + 3] = 255;
    }
    buffer.width = box.w;
    buffer.height = box.h;
    buffer.getContext('2d').putImageData(image, 0, 0);
    return buffer;
  };

  let ratio = 1, waiting = false;
  const render = () => {
    if (!waiting) {
      waiting = true;
      requestAnimationFrame(() => { waiting = false; draw(); });
    }
  };

  const scene = () => scenes[view.scene];
  // from the frame's px (from the top) to those of the canvas, and back
  const toCanvas = (x, y) => [
    canvas.width / 2 + (x - view.x) * view.zoom * ratio,
    canvas.height / 2 + (y - view.y) * view.zoom * ratio,
  ];
  const toFrame = (cssX, cssY) => [
    view.x + (cssX - stage.clientWidth / 2) / view.zoom,
    view.y + (cssY - stage.clientHeight / 2) / view.zoom,
  ];

  const draw = () => {
    const own = scene();
    if (!own.levels) return;
    ratio = Math.min(window.devicePixelRatio || 1, 2);
    const w = Math.round(stage.clientWidth * ratio), h = Math.round(stage.clientHeight * ratio);
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    if (view.fit) fit();
    context.fillStyle = '#000';
    context.fillRect(0, 0, w, h);
    const device = view.zoom * ratio * own.bin; // canvas px of one of its px
    let n = 0;
    while (n + 1 < own.levels.length && device * 2 ** (n + 1) <= 1.01) n++;
    const level = own.levels[n], side = own.bin * 2 ** n; // frame px of one px of the level
    context.imageSmoothingEnabled = device * 2 ** n < 1;
    context.imageSmoothingQuality = 'high';
    const split = view.blink ? (view.blink === 1 ? w : 0) : Math.round(view.split * w);
    for (const [name, from, to] of [[byId('left').value, 0, split], [byId('right').value, split, w]]) {
      if (to <= from) continue;
      const place = (v, first, size) => clamp((v - first) / side, 0, size);
      const x0 = Math.floor(place(view.x + (from - w / 2) / view.zoom / ratio, own.x, level.width));
      const x1 = Math.ceil(place(view.x + (to - w / 2) / view.zoom / ratio, own.x, level.width));
      const y0 = Math.floor(place(view.y - h / 2 / view.zoom / ratio, own.y, level.height));
      const y1 = Math.ceil(place(view.y + h / 2 / view.zoom / ratio, own.y, level.height));
      if (x1 <= x0 || y1 <= y0) continue;
      const box = {x: x0, y: y0, w: x1 - x0, h: y1 - y0};
      const [left, top] = toCanvas(own.x + x0 * side, own.y + y0 * side);
      const scale = side * view.zoom * ratio;
      context.save();
      context.beginPath();
      context.rect(from, 0, to - from, h);
      context.clip();
      context.drawImage(paint(name, level, box), left, top, box.w * scale, box.h * scale);
      context.restore();
    }
    drawMarks();
    tell();
  };

  const drawMarks = () => {
    if (!byId('marks').checked) return;
    for (const place of about.places) {
      const chosen = view.mark === place;
      if (!chosen && place.kind === 'moved') continue;
      const y = about.upward ? about.height - 1 - place.y : place.y;
      const [x, top] = toCanvas(place.x + 0.5, y + 0.5);
      context.lineWidth = (chosen ? 2 : 1.2) * ratio;
      context.strokeStyle = chosen ? '#ffc65c' : {invented: '#ff8f7a', lost: '#7fc7ff'}[place.kind];
      context.beginPath();
      if (place.kind === 'moved') {
        const side = Math.max(place.box * view.zoom * ratio, 8 * ratio);
        context.rect(x - side / 2, top - side / 2, side, side);
      } else {
        context.arc(x, top, Math.max(4 * view.zoom, 9) * ratio, 0, 2 * Math.PI);
      }
      context.stroke();
    }
  };

  const tell = () => {
    byId('name-left').textContent = LAYERS[byId('left').value];
    byId('name-right').textContent = LAYERS[byId('right').value];
    byId('name-left').hidden = view.blink === 2;
    byId('name-right').hidden = view.blink === 1;
    divider.hidden = Boolean(view.blink);
    divider.style.left = `${100 * view.split}%`;
    divider.setAttribute('aria-valuenow', Math.round(100 * view.split));
    Object.assign(stage.dataset, {
      x: Math.floor(view.x),
      y: about.upward ? about.height - 1 - Math.floor(view.y) : Math.floor(view.y),
      zoom: view.zoom.toFixed(3), scene: view.scene,
    });
    const part = scene().bin > 1 ? `, ${scene().bin} × ${scene().bin} px taken together` : '';
    if (!pointed) readout.textContent = `${(100 * view.zoom).toFixed(0)} % of full size${part}`;
  };

  // Moving ---------------------------------------------------------------------------------------

  const whole = () => {
    const own = scene();
    return [own.width * own.bin, own.height * own.bin];
  };
  const smallest = () => {
    const [w, h] = whole();
    return Math.min(stage.clientWidth / w, stage.clientHeight / h);
  };
  const fit = () => {
    const [w, h] = whole();
    view.zoom = smallest();
    view.x = scene().x + w / 2;
    view.y = scene().y + h / 2;
  };
  const hold = () => {
    const [w, h] = whole();
    view.zoom = clamp(view.zoom, Math.min(smallest(), 1), 40);
    view.x = clamp(view.x, scene().x, scene().x + w);
    view.y = clamp(view.y, scene().y, scene().y + h);
    view.fit = false;
  };
  const zoomBy = (factor, cssX = stage.clientWidth / 2, cssY = stage.clientHeight / 2) => {
    const [x, y] = toFrame(cssX, cssY);
    view.zoom *= factor;
    hold();
    const [newX, newY] = toFrame(cssX, cssY);
    view.x += x - newX;
    view.y += y - newY;
    hold();
    render();
  };
  const moveBy = (dx, dy) => {
    view.x += dx / view.zoom;
    view.y += dy / view.zoom;
    hold();
    render();
  };
  const splitTo = (share) => { view.split = clamp(share, 0, 1); render(); };

  const choose = async (number) => {
    view.scene = number;
    byId('scene').value = number;
    const own = scenes[number];
    if (!own.levels) {
      const layers = {};
      for (const name of about.layers) layers[name] = await unpack(number, own, name);
      own.levels = pyramid(own, layers);
    }
  };

  const jump = async (place) => {
    const y = about.upward ? about.height - 1 - place.y : place.y;
    const inside = (one) => place.x >= one.x && place.x < one.x + one.width * one.bin
      && y >= one.y && y < one.y + one.height * one.bin;
    const order = scenes.map((one, i) => i).filter((i) => inside(scenes[i]));
    order.sort((a, b) => scenes[a].bin - scenes[b].bin);
    await choose(order.length ? order[0] : 0);
    view.mark = place;
    view.fit = false;
    view.zoom = place.kind === 'moved' ? clamp(220 / Math.max(place.box, 20), 3, 8) : 7;
    view.x = place.x + 0.5;
    view.y = y + 0.5;
    if (about.planes > 1 && !about.colour) {
      view.plane = place.planes[0];
      byId('plane').value = view.plane;
    }
    hold();
    render();
    stage.scrollIntoView({block: 'nearest'});
  };
  for (const button of document.querySelectorAll('[data-place]')) {
    button.addEventListener('click', () => jump(about.places[Number(button.dataset.place)]));
  }

  const fingers = new Map();
  let pinch = 0;
  stage.addEventListener('pointerdown', (event) => {
    if (divider.contains(event.target)) return;
    stage.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    pinch = 0;
  });
  stage.addEventListener('pointermove', (event) => {
    point(event);
    const last = fingers.get(event.pointerId);
    if (!last) return;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    moveBy((last[0] - event.clientX) / fingers.size, (last[1] - event.clientY) / fingers.size);
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()], rect = stage.getBoundingClientRect();
      const distance = Math.hypot(a[0] - b[0], a[1] - b[1]);
      if (pinch) {
        zoomBy(distance / pinch, (a[0] + b[0]) / 2 - rect.left, (a[1] + b[1]) / 2 - rect.top);
      }
      pinch = distance;
    }
  });
  for (const end of ['pointerup', 'pointercancel']) {
    stage.addEventListener(end, (event) => { fingers.delete(event.pointerId); pinch = 0; });
  }
  stage.addEventListener('wheel', (event) => {
    event.preventDefault();
    const rect = stage.getBoundingClientRect();
    zoomBy(1.0018 ** -event.deltaY, event.clientX - rect.left, event.clientY - rect.top);
  }, {passive: false});
  stage.addEventListener('dblclick', (event) => {
    if (divider.contains(event.target)) return;
    const rect = stage.getBoundingClientRect();
    zoomBy(2, event.clientX - rect.left, event.clientY - rect.top);
  });

  divider.addEventListener('pointerdown', (event) => divider.setPointerCapture(event.pointerId));
  divider.addEventListener('pointermove', (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const rect = stage.getBoundingClientRect();
    splitTo((event.clientX - rect.left) / rect.width);
  });
  divider.addEventListener('keydown', (event) => {
    const step = {ArrowLeft: -0.02, ArrowRight: 0.02, PageUp: 0.2, PageDown: -0.2}[event.key];
    const end = {Home: 0, End: 1}[event.key];
    if (step === undefined && end === undefined) return;
    splitTo(end ?? view.split + step);
    event.preventDefault();
    event.stopPropagation();
  });

  const cycle = (select) => {
    select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
    render();
  };
  stage.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      ArrowLeft: () => moveBy(-60, 0), ArrowRight: () => moveBy(60, 0),
      ArrowUp: () => moveBy(0, -60), ArrowDown: () => moveBy(0, 60),
      '+': () => zoomBy(1.5), '=': () => zoomBy(1.5), '-': () => zoomBy(1 / 1.5),
      0: all, 1: oneToOne, b: blink, s: () => cycle(byId('stretch')),
      '[': () => splitTo(view.split - 0.05), ']': () => splitTo(view.split + 0.05),
    }[event.key];
    if (!act) return;
    act();
    event.preventDefault();
  });

  const all = () => { view.fit = true; render(); };
  const oneToOne = () => { view.zoom = 1; hold(); render(); };
  byId('zoom-in').addEventListener('click', () => zoomBy(1.5));
  byId('zoom-out').addEventListener('click', () => zoomBy(1 / 1.5));
  byId('zoom-fit').addEventListener('click', all);
  byId('zoom-one').addEventListener('click', oneToOne);

  let timer = 0;
  const blink = () => {
    clearInterval(timer);
    view.blink = view.blink ? 0 : 1;
    if (view.blink) timer = setInterval(() => { view.blink = 3 - view.blink; draw(); }, 700);
    byId('blink').setAttribute('aria-pressed', Boolean(view.blink));
    render();
  };
  byId('blink').addEventListener('click', blink);

  // Values under the pointer ---------------------------------------------------------------------

  const readout = byId('readout');
  let pointed = false;
  const point = (event) => {
    const rect = stage.getBoundingClientRect(), own = scene();
    if (!own.levels) return;
    const [x, y] = toFrame(event.clientX - rect.left, event.clientY - rect.top).map(Math.floor);
    const col = Math.floor((x - own.x) / own.bin), row = Math.floor((y - own.y) / own.bin);
    pointed = col >= 0 && row >= 0 && col < own.width && row < own.height;
    if (!pointed) return tell();
    const {layers} = own.levels[0], i = row * own.width + col, unit = about.unit ? ` ${about.unit}` : '';
    const number = (v) => (Number.isFinite(v) ? Number(v.toPrecision(5)).toString() : 'none');
    const values = (name) => shown().map((p) => {
      const u = valueAt(name, layers, p, 1 - strength())(i);
      return number(u * about.scale[p] + about.sky[p]);
    }).join(' ');
    const line = about.upward ? about.height - 1 - y : y;
    readout.textContent = `x ${x}  y ${line}   noisy ${values('noisy')}   denoised ${values('denoised')}${unit}`;
  };
  stage.addEventListener('pointerleave', () => { pointed = false; tell(); });

  // Controls -------------------------------------------------------------------------------------

  const tellStrength = () => {
    const own = strength();
    byId('strength-value').textContent = own.toFixed(2);
    byId('command').textContent = about.command.replace(/\{([\d.]+)\}/g, (_, full) => (own * full).toFixed(2));
  };
  byId('strength').addEventListener('input', () => { tellStrength(); render(); });
  for (const id of ['left', 'right', 'stretch', 'brightness', 'marks']) {
    byId(id).addEventListener('input', render);
  }
  byId('copy').addEventListener('click', async () => {
    const button = byId('copy'), range = document.createRange();
    try {
      await navigator.clipboard.writeText(byId('command').textContent);
    } catch { // no clipboard in a page from a file: select the text, and copy that
      range.selectNodeContents(byId('command'));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand('copy');
    }
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
  if (about.planes > 1 && !about.colour) {
    about.names.forEach((name, i) => byId('plane').add(new Option(name, i)));
    byId('plane-choice').hidden = false;
    byId('plane').addEventListener('input', () => {
      view.plane = Number(byId('plane').value);
      render();
    });
  }
  if (scenes.length > 1) {
    scenes.forEach((one, i) => {
      const text = i ? `x ${one.x}, y ${about.upward ? about.height - one.y - one.height : one.y}, full size`
        : `whole frame, ${one.bin} × ${one.bin} px taken together`;
      byId('scene').add(new Option(text, i));
    });
    byId('scene-choice').hidden = false;
    byId('scene').addEventListener('input', async () => {
      await choose(Number(byId('scene').value));
      all();
    });
  }
  new ResizeObserver(render).observe(stage);

  tellStrength();
  choose(0).then(() => {
    draw();
    stage.dataset.ready = 'yes';
  }).catch((error) => {
    readout.textContent = `The pixels could not be unpacked (${error}): a browser of 2023 or later is needed.`;
  });
})();
