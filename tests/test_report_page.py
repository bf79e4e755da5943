# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The page of a report in a real browser: it renders, moves, blends, and asks for nothing."""

import base64
import io
import re
import shutil

import numpy as np
import pytest
from astropy.nddata import CCDData
from starfields import SIGMA, SKY, add_star, noisy_field

from astrodenoise.report import make_report
from astrodenoise.reportpage import write_page

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
SPOT = (96, 160)  # x, y of a star that was painted
DESKTOP, PHONE = {'width': 1280, 'height': 900}, {'width': 390, 'height': 844}


@pytest.fixture(scope='module')
def browser():
    """A headless Chromium of this machine, for all tests."""
    api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f'the page is tested in a browser: install one of {", ".join(BROWSERS)}')
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=['--no-sandbox'])
        yield browser
        browser.close()


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    """Files of reports: of one plane with a star painted in, of three, and one that is binned."""
    folder = tmp_path_factory.mktemp('pages')
    noisy, scene, _ = noisy_field((192, 256))
    clean = scene.copy()
    add_star(clean, *SPOT, 40)
    made = {'mono': (noisy, clean, {}), 'large': (noisy, clean, {'budget': 45_000})}
    made['colour'] = (np.stack([noisy] * 3), np.stack([scene, scene, scene + SIGMA]), {})
    files = {}
    for name, (before, after, options) in made.items():
        truth = CCDData(scene, unit='adu') if name == 'mono' else None
        report = make_report(
            CCDData(before, unit='adu'), CCDData(after, unit='adu'), truth=truth,
            names={'noisy': f'{name}.fits'},
        )  # fmt: skip
        files[name] = folder / f'{name}.html'
        write_page(files[name], report, **options)
    return files


@pytest.fixture
def open_page(browser, pages):
    """Opens a report; no message, error or request may come of it."""
    faults, contexts = [], []

    def open_one(name='mono', viewport=DESKTOP, **options):
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.on('console', lambda message: faults.append(message.text))
        page.on('pageerror', lambda error: faults.append(str(error)))
        page.on('request', lambda request: faults.append(request.url))
        page.goto(pages[name].as_uri())
        page.wait_for_selector('#stage[data-ready=yes]')
        return page

    yield open_one
    for context in contexts:
        context.close()
    # the page itself is the one request
    assert [fault for fault in faults if not fault.startswith('file:///')] == []
    assert len(faults) == len(contexts), faults


def canvas(page, layer=None):
    """Pixels of the canvas after the next frame, (h, w, 3)."""
    from PIL import Image

    if layer:
        page.select_option('#left', layer)
        page.select_option('#right', layer)
    page.evaluate('() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))')
    url = page.evaluate('document.getElementById("canvas").toDataURL("image/png")')
    picture = Image.open(io.BytesIO(base64.b64decode(url.split(',')[1]))).convert('RGB')
    return np.asarray(picture).astype(int)


def slide(page, control, value):
    """Set a slider as a hand would, by its input event."""
    page.eval_on_selector(
        control, '(e, v) => { e.value = v; e.dispatchEvent(new Event("input")); }', str(value)
    )


def place_of(page, element):
    """Where an element is on the screen, once it is there."""
    page.locator(element).scroll_into_view_if_needed()
    return page.locator(element).bounding_box()


def where(page):
    """The middle of the view: x and y in px, and the zoom."""
    data = page.eval_on_selector('#stage', '(e) => ({...e.dataset})')
    return int(data['x']), int(data['y']), float(data['zoom'])


def middle(shown):
    """The part of a canvas that the frame fills."""
    return shown[:, shown.shape[1] // 4 : -shown.shape[1] // 4]


def test_page_renders_with_its_answers(open_page):
    page = open_page()
    assert page.title() == 'mono.fits: report'
    assert page.inner_text('#question-invented .number').startswith('1 of')
    assert page.locator('.check').count() == 10
    assert page.locator('figure svg').count() >= 3
    shown = canvas(page)
    left, right = middle(shown)[:, :300], middle(shown)[:, -300:]
    assert left.std() > 1.2 * right.std()  # noisy beside denoised


def test_divider_moves_pixels(open_page):
    """By hand and by keys: what lies between the two places changes, nothing else."""
    page = open_page()
    before = canvas(page)
    box, stage = place_of(page, '#divider'), place_of(page, '#stage')
    y = stage['y'] + stage['height'] / 2
    page.mouse.move(box['x'] + box['width'] / 2, y)
    page.mouse.down()
    page.mouse.move(stage['x'] + 0.7 * stage['width'], y, steps=4)
    page.mouse.up()
    after = canvas(page)
    changed = (before != after).any(axis=(0, 2))
    columns = np.flatnonzero(changed) / changed.size
    assert 0.49 < columns.min() < 0.52
    assert 0.68 < columns.max() < 0.71
    assert page.get_attribute('#divider', 'aria-valuenow') == '70'
    page.focus('#divider')
    page.keyboard.press('Home')
    all_denoised = canvas(page)
    assert page.get_attribute('#divider', 'aria-valuenow') == '0'
    np.testing.assert_array_equal(all_denoised, canvas(page, 'denoised'))


def test_strength_blends_and_says_how(open_page):
    page = open_page()
    noisy, denoised = canvas(page, 'noisy'), canvas(page, 'denoised')
    assert page.inner_text('#command') == 'noisy - 1.00 * (noisy - denoised)'
    slide(page, '#strength', 50)
    half = canvas(page)
    assert page.inner_text('#command') == 'noisy - 0.50 * (noisy - denoised)'
    assert page.inner_text('#strength-value') == '0.50'
    spread = [np.std(np.diff(middle(shown)[..., 0], axis=1)) for shown in (denoised, half, noisy)]
    assert spread[0] < 0.8 * spread[1] < 0.9 * spread[2]
    slide(page, '#strength', 0)
    np.testing.assert_array_equal(canvas(page), noisy)
    page.uncheck('#marks')
    residual = canvas(page, 'residual')  # nothing was removed
    assert set(np.unique(middle(residual)[100:-100])) == {128}


def test_click_on_a_position_moves_there(open_page):
    page = open_page()
    page.click('#question-invented .places button')
    x, y, zoom = where(page)
    assert np.hypot(x - SPOT[0], y - SPOT[1]) <= 1.5
    assert zoom > 5
    shown = canvas(page)
    top, left = shown.shape[0] // 2, shown.shape[1] // 2
    core = shown[top - 8 : top + 8, left + 2 : left + 14].mean()  # the star, right of the divider
    assert core > shown[top - 200 : top - 100, left + 100 : left + 200].mean() + 40
    page.click('#zoom-fit')
    canvas(page)
    assert where(page)[2] < zoom
    button = page.locator('#question-moved .places button:visible').last
    button.click()
    canvas(page)
    listed = tuple(map(int, button.locator('span').first.inner_text().split(',')))
    assert where(page)[:2] == listed


@pytest.mark.parametrize('name', ['asinh', 'linear'])
def test_stretch_and_brightness(open_page, name):
    page = open_page()
    before = canvas(page, 'denoised')
    page.select_option('#stretch', name)
    other = canvas(page)
    assert (before != other).any()
    slide(page, '#brightness', 80)
    assert middle(canvas(page)).mean() > middle(other).mean() + 1


def test_sky_of_the_automatic_stretch_is_a_quarter(open_page):
    page = open_page()
    assert page.input_value('#stretch') == 'mtf'
    assert np.median(middle(canvas(page, 'denoised'))) == pytest.approx(64, abs=6)


def test_zoom_and_pan(open_page):
    """Wheel, mouse, buttons and keys."""
    page = open_page()
    x, y, all_of_it = where(page)
    assert (x, y) == (128, 95)
    stage = place_of(page, '#stage')
    at = stage['x'] + 0.3 * stage['width'], stage['y'] + 0.3 * stage['height']
    page.mouse.move(*at)
    page.mouse.wheel(0, -500)
    canvas(page)
    x, y, zoom = where(page)
    assert zoom > 1.5 * all_of_it
    page.mouse.down()
    page.mouse.move(at[0] - 80, at[1] - 40, steps=4)
    page.mouse.up()
    canvas(page)
    assert where(page)[0] == pytest.approx(x + 80 / zoom, abs=1.5)
    assert where(page)[1] == pytest.approx(y - 40 / zoom, abs=1.5)  # rows run upwards
    page.click('#zoom-one')
    canvas(page)
    assert where(page)[2] == 1
    page.focus('#stage')
    page.keyboard.press('+')
    page.keyboard.press('ArrowRight')
    canvas(page)
    assert where(page)[2] == 1.5
    page.keyboard.press('0')
    canvas(page)
    assert where(page) == (128, 95, all_of_it)


def test_values_under_the_pointer(open_page):
    page = open_page()
    page.click('#question-invented .places button')
    canvas(page)
    stage = place_of(page, '#stage')
    page.mouse.move(stage['x'] + stage['width'] / 2 + 30, stage['y'] + stage['height'] / 2)
    text = page.inner_text('#readout')
    numbers = re.fullmatch(r'x (\d+) +y (\d+) +noisy ([\d.]+) +denoised ([\d.]+) adu', text)
    assert numbers, text
    assert 0 < float(numbers[4]) - SKY < 300
    assert abs(float(numbers[3]) - SKY) < 6 * SIGMA


def test_layers_of_a_truth(open_page):
    """The denoised frame was the truth, but for the painted star."""
    page = open_page()
    names = page.eval_on_selector_all('#right option', '(all) => all.map((e) => e.value)')
    assert names == ['noisy', 'denoised', 'residual', 'truth', 'wrong']
    wrong = canvas(page, 'wrong')
    assert np.median(middle(wrong)) == 128
    assert wrong.max() == 255  # the star
    slide(page, '#strength', 0)
    assert middle(canvas(page)).std() > 20  # the noise


def test_blink_changes_sides(open_page):
    page = open_page()
    noisy, denoised = canvas(page, 'noisy'), canvas(page, 'denoised')
    page.select_option('#left', 'noisy')
    page.click('#blink')
    seen = set()
    for _ in range(20):
        shown = canvas(page)
        seen |= {name for name, own in (('noisy', noisy), ('denoised', denoised))
                 if (shown == own).all()}  # fmt: skip
        if len(seen) == 2:
            break
        page.wait_for_timeout(150)
    assert seen == {'noisy', 'denoised'}
    assert page.get_attribute('#blink', 'aria-pressed') == 'true'
    page.click('#blink')
    assert page.get_attribute('#blink', 'aria-pressed') == 'false'


def test_colours(open_page):
    """Three planes are one picture; their figures have a tab each."""
    page = open_page('colour')
    shown = middle(canvas(page, 'denoised'))
    sky = np.median(shown, axis=(0, 1))
    assert sky[2] > sky[0] + 5  # one sigma was added to blue
    assert sky[0] == sky[1]
    page.click('.tabs button:has-text("Blue")')
    assert page.is_visible('#figures-2')
    assert not page.is_visible('#figures-0')


def test_large_frame_has_pieces(open_page):
    """A position opens the piece that shows it in full size."""
    page = open_page('large')
    assert 'taken together' in page.inner_text('#readout')
    page.click('#question-invented .places button')
    page.wait_for_selector('#stage:not([data-scene="0"])')
    x, y, _ = where(page)
    assert np.hypot(x - SPOT[0], y - SPOT[1]) <= 1.5
    page.select_option('#scene', '0')
    page.wait_for_selector('#stage[data-scene="0"]')


def test_phone(open_page):
    """Nothing is wider than the screen, and fingers move and zoom."""
    page = open_page(viewport=PHONE, has_touch=True, device_scale_factor=2)
    for details in page.locator('details').all():
        details.evaluate('(e) => { e.open = true; }')
    assert page.evaluate('document.documentElement.scrollWidth') <= PHONE['width']
    small = page.eval_on_selector_all(
        'button, select', '(all) => all.filter((e) => e.offsetParent && e.offsetHeight < 40).length'
    )
    assert small == 0
    page.locator('#question-invented .places button').tap()
    canvas(page)
    before = where(page)
    assert before[2] > 5
    client = page.context.new_cdp_session(page)
    box = page.locator('#stage').bounding_box()
    y = box['y'] + box['height'] / 2

    def touch(kind, *xs):
        points = [{'x': x, 'y': y, 'id': i} for i, x in enumerate(xs)]
        client.send('Input.dispatchTouchEvent', {'type': kind, 'touchPoints': points})

    touch('touchStart', 120, 280)
    for spread in (10, 20, 30, 40):
        touch('touchMove', 120 - spread, 280 + spread)
    touch('touchEnd')
    canvas(page)
    assert where(page)[2] == pytest.approx(before[2] * 240 / 160, rel=0.1)


def test_looks(open_page):
    """Dark by default, light where the system is, red when asked for; kept for the next visit."""
    ground = 'getComputedStyle(document.body).backgroundColor'
    page = open_page(color_scheme='dark')
    assert page.evaluate(ground) == 'rgb(10, 12, 16)'
    page.select_option('#theme', 'red')
    assert page.evaluate('getComputedStyle(document.body, "::after").mixBlendMode') == 'multiply'
    light = open_page(color_scheme='light')
    assert light.evaluate(ground) == 'rgb(244, 242, 238)'
    light.select_option('#theme', 'dark')
    assert light.evaluate(ground) == 'rgb(10, 12, 16)'


def test_everything_has_a_name_and_a_place_for_the_keyboard(open_page):
    """Controls have names; each can be reached by the tab key and is seen when it is."""
    page = open_page()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input')].filter((e) =>
        !(e.labels && e.labels.length) && !e.textContent.trim() && !e.ariaLabel).length"""
    )
    assert unnamed == 0
    reached = set()
    for _ in range(40):
        page.keyboard.press('Tab')
        reached.add(page.evaluate('document.activeElement.id'))
    viewer = {'stage', 'divider', 'left', 'right', 'blink', 'stretch', 'brightness', 'strength'}
    zoom = {'zoom-in', 'zoom-out', 'zoom-fit', 'zoom-one'}
    assert viewer | zoom | {'marks', 'copy', 'theme'} <= reached
