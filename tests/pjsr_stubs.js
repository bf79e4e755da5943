// Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
//
// Runs integrations/pixinsight/AstroDenoise.js in node, with stand-ins for what it uses of PixInsight.
//
// node pjsr_stubs.js SCRIPT SCENARIO.json: what happened is printed as JSON.

'use strict';

const childProcess = require('child_process');
const fs = require('fs');
const path = require('path');
const vm = require('vm');

const scenario = JSON.parse(fs.readFileSync(process.argv[3], 'utf8'));
const happened = {
   console: [], warnings: [], critical: [], boxes: [], commands: [], settings: scenario.settings || {},
   opened: [], saved: [], parameters: scenario.parameters || {}, dialogs: 0, copies: 0
};

// ---- XISF, as much as is needed: one image of 32-bit floats, plane after plane --------------------

function writeXisf(file, image, keywords) {
   const pixels = Buffer.from(image.pixels.buffer, image.pixels.byteOffset, image.pixels.byteLength);
   const space = image.isColor ? 'RGB' : 'Gray';
   const cards = keywords.map(
      one => `<FITSKeyword name="${one.name}" value="${one.value}" comment="${one.comment}"/>`
   ).join('');
   const text = position => '<?xml version="1.0" encoding="UTF-8"?>' +
      '<xisf version="1.0" xmlns="http://www.pixinsight.com/xisf">' +
      `<Image geometry="${image.width}:${image.height}:${image.numberOfChannels}" ` +
      `sampleFormat="Float32" bounds="0:1" colorSpace="${space}" ` +
      `location="attachment:${position}:${pixels.length}">${cards}</Image></xisf>`;
   const start = 16384;
   const xml = Buffer.from(text(start));
   const head = Buffer.alloc(start);
   head.write('XISF0100', 0);
   head.writeUInt32LE(xml.length, 8);
   xml.copy(head, 16);
   fs.writeFileSync(file, Buffer.concat([head, pixels]));
}

function readXisf(file) {
   const all = fs.readFileSync(file);
   const xml = all.toString('utf8', 16, 16 + all.readUInt32LE(8));
   const tag = /<Image [^>]*>/.exec(xml)[0];
   const attribute = name => new RegExp(` ${name}="([^"]*)"`).exec(tag)[1];
   const [width, height, channels] = attribute('geometry').split(':').map(Number);
   const [, position, length] = attribute('location').split(':').map(Number);
   if (attribute('sampleFormat') != 'Float32')
      throw new Error('not of 32-bit floats');
   const bytes = new Uint8Array(all.subarray(position, position + length)); // of its own, aligned
   const keywords = [...xml.matchAll(/<FITSKeyword [^>]*>/g)].map(match => {
      const get = name => (new RegExp(` ${name}="([^"]*)"`).exec(match[0]) || ['', ''])[1];
      return { name: get('name'), value: get('value'), comment: get('comment') };
   });
   const image = new Image(width, height, channels, channels == 3);
   image.pixels = new Float32Array(bytes.buffer);
   return { image, keywords };
}

// ---- PixInsight's objects -------------------------------------------------------------------------

class Image {
   constructor(width, height, channels, isColor) {
      Object.assign(this, { width, height, numberOfChannels: channels, isColor });
      this.pixels = new Float32Array(width * height * channels);
   }
   assign(other) { this.pixels = Float32Array.from(other.pixels); }
   truncate(low, high) { this.pixels = this.pixels.map(one => Math.min(Math.max(one, low), high)); }
}

class View {
   constructor(window, id, image) {
      Object.assign(this, { window, id, image, isNull: false, stf: 'none', values: {}, within: false });
   }
   get properties() { return Object.keys(this.values); }
   propertyValue(name) { return this.values[name][0]; }
   propertyType(name) { return this.values[name][1]; }
   setPropertyValue(name, value, type) {
      if (name.startsWith('PCL:'))
         throw new Error('reserved property');
      this.values[name] = [value, type];
      return true;
   }
   beginProcess() { this.within = true; }
   endProcess() { this.within = false; }
}

class ImageWindow {
   constructor(width, height, channels, bits, isFloat, isColor, id) {
      happened.copies += 1;
      if (bits != 32 || !isFloat)
         throw new Error('not of 32-bit floats');
      this.mainView = new View(this, id, new Image(width, height, channels, isColor));
      Object.assign(this, { keywords: [], isNull: false, solution: null, shown: false });
   }
   get hasAstrometricSolution() { return this.solution !== null; }
   copyAstrometricSolution(other) { this.solution = other.solution; }
   saveAs(file, queryOptions, allowMessages, strict, verifyOverwrite) {
      if (queryOptions || allowMessages || verifyOverwrite || scenario.diskFull)
         return false;
      writeXisf(file, this.mainView.image, this.keywords);
      happened.saved.push(file);
      return true;
   }
   forceClose() { happened.copies -= 1; }
   show() { this.shown = true; }
   static open(file, id, hints, asCopy) {
      const { image, keywords } = readXisf(file);
      const window = new ImageWindow(1, 1, 1, 32, true, false, id);
      happened.copies -= 1;
      window.mainView.image = image;
      window.keywords = keywords;
      happened.opened.push(Object.assign(window, { asCopy }));
      return [window];
   }
}

function makeActive() {
   if (!scenario.image)
      return { isNull: true };
   const { width, height, channels, file } = scenario.image;
   const window = new ImageWindow(width, height, channels, 32, true, channels >= 3, 'M51');
   happened.copies -= 1;
   const bytes = new Uint8Array(fs.readFileSync(file));
   window.mainView.image.pixels = new Float32Array(bytes.buffer);
   window.mainView.stf = [[0.01, 0.5, 1, 0, 1]];
   window.mainView.values = { 'Observation:Object:Name': ['M51', 1], 'PCL:Signature': ['x', 1] };
   window.keywords = [{ name: 'OBJECT', value: "'M51'", comment: 'what it is' }];
   window.solution = 'a plate solution';
   return window;
}

class ExternalProcess {
   constructor() {
      Object.assign(this, { isStarting: false, isRunning: false, exitCode: 0, stdout: '', stderr: '' });
   }
   start(program, list) {
      happened.commands.push([program, ...list]);
      const done = childProcess.spawnSync(program, list, { encoding: 'utf8' });
      if (done.error) {
         this.onError(0);
         return;
      }
      this.exitCode = done.status;
      for (const [name, event] of [['stdout', 'Output'], ['stderr', 'Error']]) {
         this[name] = done[name];
         if (done[name])
            this[`onStandard${event}DataAvailable`]();
         this[name] = ''; // it has been read
      }
      this.isRunning = Boolean(scenario.abort);
   }
   waitForFinished() { return !this.isRunning; }
   kill() { this.isRunning = false; }
}

const kinds = { strength: 'number', chroma: 'number', ownChroma: 'boolean', joint: 'boolean' };

class Control {
   constructor() {
      this.font = { width: text => 8 * text.length };
      this.label = {};
      this.slider = { setRange() {} };
      this.items = [];
   }
   setRange() {}
   setPrecision() {}
   setValue(value) { this.value = value; }
   add() {}
   addItem(item) { this.items.push(item); }
   addSpacing() {}
   addStretch() {}
   scaledResource(name) { return name; }
   adjustToContents() {}
   newInstance() { happened.instances = (happened.instances || 0) + 1; }
   ok() { this.result = 1; }
   cancel() { this.result = 0; }
}

// The user: does to the dialog what the scenario says, "run" or "quit" at the end.
function Dialog() { Object.assign(this, new Control()); }
Dialog.prototype = Object.create(Control.prototype);
Dialog.prototype.execute = function() {
   happened.dialogs += 1;
   happened.shown = {
      strength: this.strength.value, chroma: this.chroma.enabled, ownChroma: this.ownChroma.enabled,
      executable: this.executable.text, model: this.model.items[this.model.currentItem]
   };
   for (const [name, value] of scenario.clicks || []) {
      const control = this[name];
      if (name == 'model')
         control.onItemSelected(control.items.indexOf(value));
      else if (name == 'executable') {
         control.text = value;
         control.onEditCompleted();
      } else if (name == 'instance')
         control.onMousePress();
      else if (control.onValueUpdated)
         control.onValueUpdated(value);
      else if (control.onCheck)
         control.onCheck(value);
      else
         control.onClick();
   }
   happened.after = { chroma: this.chroma.enabled };
   return this.result;
};

class MessageBox {
   constructor(text, title, icon) { Object.assign(this, { text, icon }); }
   execute() { happened.boxes.push(this.text); }
}

const remembered = happened.settings;
const parameters = happened.parameters;
ImageWindow.activeWindow = makeActive();
const world = {
   Control, Dialog, ExternalProcess, ImageWindow, MessageBox,
   CheckBox: Control, ComboBox: Control, Edit: Control, Label: Control, NumericControl: Control,
   PushButton: Control, ToolButton: Control, HorizontalSizer: Control, VerticalSizer: Control,
   OpenFileDialog: class { execute() { this.fileName = '/found/astrodenoise'; return true; } },
   CoreApplication: { platform: scenario.platform || 'Linux' },
   Console: {
      abortEnabled: false, abortRequested: Boolean(scenario.abort),
      show() {},
      writeln: text => happened.console.push(text),
      warningln: text => happened.warnings.push(text),
      criticalln: text => happened.critical.push(text)
   },
   File: {
      homeDirectory: scenario.home, systemTempDirectory: scenario.temp,
      exists: file => fs.existsSync(file) && fs.statSync(file).isFile(),
      directoryExists: file => fs.existsSync(file) && fs.statSync(file).isDirectory(),
      createDirectory: (file, recursive) => fs.mkdirSync(file, { recursive }),
      remove: file => fs.unlinkSync(file),
      removeDirectory: file => fs.rmdirSync(file)
   },
   Settings: {
      lastReadOK: false,
      read(key) {
         this.lastReadOK = key in remembered;
         return this.lastReadOK ? remembered[key] : null;
      },
      write(key, type, value) { remembered[key] = value; }
   },
   Parameters: {
      isViewTarget: scenario.target == 'view', isGlobalTarget: scenario.target == 'global',
      targetView: ImageWindow.activeWindow.mainView,
      has: name => name in parameters,
      getReal: name => Number(parameters[name]),
      getBoolean: name => parameters[name] === true || parameters[name] == 'true',
      getString: name => String(parameters[name]),
      set(name, value) {
         if (name in kinds && typeof value != kinds[name])
            throw new Error(`${name} is a ${typeof value}`);
         parameters[name] = value;
      }
   },
   processEvents() {},
   DataType_UCString: 1, DataType_Double: 2, DataType_Boolean: 3,
   StdIcon_Error: 1, StdButton_Ok: 1, TextAlign_Right: 1, TextAlign_VertCenter: 2,
   UndoFlag_NoSwapFile: 1
};

// PixInsight's preprocessor takes the lines that begin with a hash; a backslash goes on
const source = fs.readFileSync(process.argv[2], 'utf8').replace(/^#(?:.*\\\n)*.*$/gm, '');
const before = ImageWindow.activeWindow.isNull ? null : ImageWindow.activeWindow.mainView.image;
const pixels = before && Float32Array.from(before.pixels);
vm.runInNewContext(source, world, { filename: path.basename(process.argv[2]) });

happened.unchanged = !before || before.pixels.every((one, i) => Object.is(one, pixels[i]));
happened.left = fs.readdirSync(scenario.temp);
happened.opened = happened.opened.map(window => {
   fs.writeFileSync(scenario.result, Buffer.from(window.mainView.image.pixels.buffer));
   return {
      id: window.mainView.id, stf: window.mainView.stf, values: window.mainView.values,
      solution: window.solution, shown: window.shown, asCopy: window.asCopy,
      within: window.mainView.within, keywords: window.keywords
   };
});
process.stdout.write(JSON.stringify(happened));
