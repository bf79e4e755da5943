# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The script for Siril, against a stand-in for its module sirilpy."""

import contextlib
import enum
import importlib.util
import os
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

from astrodenoise import denoise, measure_noise
from helpers import ROOT

SCRIPT = ROOT / 'integrations' / 'siril' / 'astrodenoise_siril.py'
HEADER = 'SIMPLE  =                    T\nBITPIX  =                  -32\nEND'


class SirilError(Exception):
    pass


class SirilConnectionError(SirilError):
    pass


class LogColor(enum.IntEnum):
    DEFAULT = 0
    RED = 1
    SALMON = 2
    GREEN = 3
    BLUE = 4


class FakeSiril:
    """What the script uses of sirilpy.SirilInterface; it notes each call."""

    def __init__(self, pixels=None, *, selection=None, header=HEADER, cli=True, busy=False):
        self.pixels, self.selection, self.header = pixels, selection, header
        self.cli, self.busy = cli, busy
        self.calls, self.logged, self.boxes, self.undo = [], [], [], []
        self.progress = []
        self.refuses = False
        self.locked = self.connected = False

    def connect(self):
        self.connected = True

    def disconnect(self):
        self.connected = False

    def is_cli(self):
        return self.cli

    def is_image_loaded(self):
        return self.pixels is not None

    @contextlib.contextmanager
    def image_lock(self):
        if self.busy:
            msg = 'Thread may be in use or an image processing dialog is open.'
            raise SirilError(msg)
        assert not self.locked
        self.locked = True
        try:
            yield self
        finally:
            self.locked = False

    def get_image_pixeldata(self):
        self.calls.append('get')
        return self.pixels.copy()

    def get_image_fits_header(self):
        return self.header

    def get_siril_selection(self):
        return self.selection

    def undo_save_state(self, text):
        if self.cli:
            msg = 'Interface error: undo not supported in headless mode'
            raise SirilError(msg)
        assert self.locked
        assert len(text.encode()) <= 70
        self.calls.append('undo')
        self.undo.append((text, self.pixels.copy()))

    def set_image_pixeldata(self, pixels):
        assert self.locked
        assert pixels.dtype in (np.float32, np.uint16)  # sirilpy refuses all others
        assert pixels.ndim in (2, 3)
        self.calls.append('set')
        self.pixels = pixels.copy()

    def cmd(self, *words):
        assert not self.locked  # commands claim the image themselves
        if self.refuses:
            msg = 'Command failed'
            raise SirilError(msg)
        self.calls.append(' '.join(words))

    def log(self, text, color=LogColor.DEFAULT):
        assert len(text.encode()) <= 1021
        self.logged.append((text, color))

    def error_messagebox(self, text, modal=False):
        self.boxes.append(text)

    def update_progress(self, text, share):
        assert 0 <= share <= 1
        self.progress.append(share)

    def reset_progress(self):
        self.progress.append(None)

    def told(self, color):
        return [text for text, shade in self.logged if shade == color]


@pytest.fixture
def script(monkeypatch):
    fake = types.ModuleType('sirilpy')
    fake.SirilError, fake.SirilConnectionError = SirilError, SirilConnectionError
    fake.LogColor = LogColor
    monkeypatch.setitem(sys.modules, 'sirilpy', fake)
    spec = importlib.util.spec_from_file_location('astrodenoise_siril', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, 'astrodenoise_siril', module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def run(script, siril, *arguments):
    script.sirilpy.SirilInterface = lambda: siril
    return script.main(list(arguments))


def sky(rng, shape=(128, 160), *, dtype=np.float32):
    """Make a frame with the values of Siril: 0 to 1, or 16 bits."""
    rows, cols = np.mgrid[: shape[-2], : shape[-1]]
    star = 0.3 * np.exp(-((rows - 40) ** 2 + (cols - 50) ** 2) / 8)
    frame = 0.05 + star + rng.normal(0, 0.004, shape)
    return (frame * 65535).round().astype(dtype) if dtype == np.uint16 else frame.astype(dtype)


@pytest.mark.parametrize('shape', [(128, 160), (3, 128, 160)])
def test_the_image_becomes_what_denoise_gives(script, rng, shape):
    before = sky(rng, shape)
    siril = FakeSiril(before)
    assert run(script, siril, '--strength', '0.7', '--model', 'fast') == 0
    channels = 'joint' if len(shape) == 3 else None
    expected = denoise(before, strength=0.7, model='fast', channels=channels)
    np.testing.assert_array_equal(siril.pixels, expected)
    assert siril.pixels.dtype == np.float32
    assert not siril.connected


def test_strength_is_085_where_none_is_given(script, rng):
    before = sky(rng)
    siril = FakeSiril(before)
    assert run(script, siril) == 0
    np.testing.assert_array_equal(siril.pixels, denoise(before, strength=0.85))


def test_chroma_is_taken_by_itself(script, rng):
    before = sky(rng, (3, 128, 128))
    siril = FakeSiril(before)
    assert run(script, siril, '--strength', '0.2', '--chroma', '1', '--model', 'fast') == 0
    expected = denoise(
        before, strength=0.2, strength_chroma=1.0, model='fast', channels='joint'
    )
    np.testing.assert_array_equal(siril.pixels, expected)


def test_separate_planes_are_no_colours(script, rng):
    before = sky(rng, (3, 128, 128))
    siril = FakeSiril(before)
    assert run(script, siril, '--separate', '--model', 'fast') == 0
    np.testing.assert_array_equal(siril.pixels, denoise(before, strength=0.85, model='fast'))


def test_16_bit_images_stay_so_and_are_rounded(script, rng):
    before = sky(rng, dtype=np.uint16)
    before[:8] = 0
    before[40:44, 60:64] = 65535
    siril = FakeSiril(before)
    assert run(script, siril, '--model', 'fast') == 0
    clean = denoise(before, strength=0.85, model='fast')
    assert siril.pixels.dtype == np.uint16
    np.testing.assert_allclose(siril.pixels, np.clip(clean, 0, 65535), atol=0.5)
    assert siril.pixels[90:].std() < 0.5 * before[90:].std()


def test_undo_is_saved_before_the_image_is_set(script, rng):
    before = sky(rng)
    siril = FakeSiril(before, cli=False)
    run(script, siril, '--model', 'fast')
    assert siril.calls == ['get', 'undo', 'set']  # the stand-in checks that the lock is held
    text, saved = siril.undo[0]
    np.testing.assert_array_equal(saved, before)
    assert text.startswith('astrodenoise ')
    assert 'strength 0.85' in text
    assert siril.progress[-1] is None  # the bar is put back


def test_without_undo_a_comment_says_it(script, rng):
    """siril-cli refuses to save a state, which would have written HISTORY."""
    siril = FakeSiril(sky(rng), cli=True)
    assert run(script, siril, '--strength', '0.5', '--model', 'fast') == 0
    get, put, note = siril.calls
    assert (get, put) == ('get', 'set')
    assert note.startswith('update_key -comment "astrodenoise ')
    assert note.endswith('strength 0.5, model fast"')


def test_a_comment_that_is_refused_is_told(script, rng):
    siril = FakeSiril(sky(rng), cli=True)
    siril.refuses = True
    assert run(script, siril, '--model', 'fast') == 0
    assert 'set' in siril.calls
    assert any('no note' in text for text in siril.told(LogColor.SALMON))


def test_the_line_of_the_history_fits(script):
    choice = script.Choice(1 / 3, 1 / 7, 'weights/100%s "of"/a very long/path/to/model.safetensors')
    assert len(choice.line().encode()) <= 70
    assert not set('%"') & set(choice.line())  # Siril makes formats and quotes of them


@pytest.mark.parametrize('selection', [None, (30, 20, 90, 60), (0, 0, 0, 0)])
def test_preview_changes_nothing(script, rng, selection):
    before = sky(rng)
    siril = FakeSiril(before, selection=selection)
    preview = script.Image(siril).preview(script.Choice(model='fast'))
    assert siril.calls == ['get']
    np.testing.assert_array_equal(siril.pixels, before)
    x, y, w, h = selection if selection and selection[2] else (0, 0, 160, 128)
    rows = slice(128 - y - h, 128 - y)  # Siril's selection counts from the top, its rows do not
    np.testing.assert_array_equal(preview.pixels, before[rows, x : x + w])


def test_preview_shows_what_apply_gives(script, rng):
    before = sky(rng, (3, 300, 320))
    siril = FakeSiril(before, selection=(110, 90, 100, 100))
    image, choice = script.Image(siril), script.Choice(0.6, 0.9, 'fast')
    shown = image.preview(choice).clean(choice)
    image.apply(choice)
    applied = siril.pixels[:, 110:210, 110:210]
    taken = (before[:, 110:210, 110:210] - applied).std()
    # tiles lie elsewhere in a part
    assert np.abs(shown - applied).std() < 0.1 * taken


def test_preview_has_the_noise_of_the_whole_frame(script, rng):
    """A selection of half a nebula cannot tell the noise; the frame can."""
    before = sky(rng)
    noise = measure_noise(before)
    part = script.cropped(noise, slice(10, 60), slice(20, 100))
    assert part.planes[0].sigma == noise.planes[0].sigma
    assert part.planes[0].shape == (50, 80)


def test_noise_is_measured_once_for_one_image(script, rng, monkeypatch):
    import astrodenoise

    times = []

    def counted(pixels):
        times.append(1)
        return measure_noise(pixels)

    monkeypatch.setattr(astrodenoise, 'measure_noise', counted)
    siril = FakeSiril(sky(rng))
    image, choice = script.Image(siril), script.Choice(model='fast')
    for _ in range(2):
        image.preview(choice)
    assert len(times) == 1
    siril.pixels = sky(rng)
    image.preview(choice)
    assert len(times) == 2


def test_no_image_is_told_and_nothing_is_set(script):
    siril = FakeSiril(None)
    assert run(script, siril) == 1
    assert siril.calls == []
    (text,) = siril.told(LogColor.RED)
    assert 'no image is loaded' in text
    assert not siril.connected


@pytest.mark.parametrize(
    ('siril', 'said'),
    [
        (FakeSiril(np.ones((64, 64), np.float32), busy=True), 'dialog is open'),
        (FakeSiril(np.linspace(0, 1, 96 * 96, dtype=np.float32).reshape(96, 96)), 'noise'),
    ],
    ids=['busy', 'noiseless'],
)
def test_errors_are_told_not_raised(script, siril, said, capsys):
    before = siril.pixels.copy()
    assert run(script, siril) == 1
    assert said in siril.told(LogColor.RED)[-1]
    np.testing.assert_array_equal(siril.pixels, before)
    assert siril.undo == []
    assert not siril.locked


def test_chroma_of_a_mono_image_is_told(script, rng):
    siril = FakeSiril(sky(rng))
    assert run(script, siril, '--chroma', '0.5') == 1
    assert 'colour' in siril.told(LogColor.RED)[0]
    assert siril.undo == []


@pytest.mark.parametrize('value', ['1.5', '-0.1', 'nan', 'much'])
def test_wrong_strength_is_refused(script, value, capsys):
    with pytest.raises(SystemExit):
        run(script, FakeSiril(None), '--strength', value)
    assert '--strength' in capsys.readouterr().err


def test_no_connection_is_told(script, capsys):
    siril = FakeSiril(None)

    def refuse():
        msg = 'no socket'
        raise SirilConnectionError(msg)

    siril.connect = refuse
    assert run(script, siril) == 1
    assert 'no socket' in capsys.readouterr().err


def test_a_missing_package_is_told_with_what_to_run(script, monkeypatch):
    monkeypatch.setitem(sys.modules, 'astrodenoise', None)
    siril = FakeSiril(None)
    assert run(script, siril) == 1
    assert f'"{sys.executable}" -m pip install' in siril.told(LogColor.RED)[0]


@pytest.mark.parametrize(
    'card',
    [
        'HISTORY astrodenoise 0.1, strength 0.85',
        'COMMENT astrodenoise 0.1, strength 0.85',
        'HISTORY astrodenoise 1/1 version=1.0 model=mono',
    ],
)
def test_a_second_time_is_warned_of(script, rng, card):
    siril = FakeSiril(sky(rng), header=HEADER.replace('END', f'{card}\nEND'))
    assert run(script, siril, '--model', 'fast') == 0
    assert any('denoised before' in text for text in siril.told(LogColor.SALMON))


def test_its_own_result_is_known_without_a_header(script, rng):
    siril = FakeSiril(sky(rng), header=None)
    image, choice = script.Image(siril), script.Choice(model='fast')
    image.apply(choice)
    assert not any('denoised before' in text for text in siril.told(LogColor.SALMON))
    image.apply(choice)
    assert any('denoised before' in text for text in siril.told(LogColor.SALMON))


def test_a_mosaic_is_warned_of(script, rng):
    siril = FakeSiril(sky(rng), header=HEADER.replace('END', "BAYERPAT= 'RGGB    '\nEND"))
    run(script, siril, '--model', 'fast')
    assert any('debayer' in text for text in siril.told(LogColor.SALMON))


def test_the_middle_of_a_large_selection_is_previewed(script):
    rows, cols = script.part_of((3000, 4000), (100, 200, 2000, 1000))
    assert (rows.start + rows.stop) / 2 == 3000 - 200 - 500
    assert (cols.start + cols.stop) / 2 == 1100
    assert rows.stop - rows.start == cols.stop - cols.start == script.PANE


def test_the_picture_is_top_row_first_and_its_sky_is_grey(script, rng):
    pixels = sky(rng, (3, 40, 60))
    pixels[:, -4:] = 1  # the top of the picture
    data = script.picture(pixels, *script.stretch_of(pixels))
    head, _, body = data.partition(b' 255\n')
    assert head == b'P6 60 40'
    levels = np.frombuffer(body, np.uint8).reshape(40, 60, 3)
    assert levels[0].min() == 255
    assert 0.15 < np.median(levels[10:]) / 255 < 0.35


WINDOW = """
import sys, types, time
import numpy as np
sys.path[:0] = [{tests!r}, {siril!r}]
import test_siril as t
fake = types.ModuleType('sirilpy')
fake.LogColor = t.LogColor
sys.modules['sirilpy'] = fake
import astrodenoise_siril as script
import tkinter as tk
from tkinter import ttk

rng = np.random.default_rng(1)
before = t.sky(rng, (3, 128, 160))
siril = t.FakeSiril(before, cli=False)
root = tk.Tk()
window = script.Window(siril, root, tk, ttk)
window.model.set('fast')

def wait():
    end = time.time() + 60
    while window.busy and time.time() < end:
        root.update()
        time.sleep(0.02)
    assert not window.busy

window.on_preview()
window.on_close()  # not while it works
wait()
assert (siril.pixels == before).all()
full = window.preview.clean(window.choice)
window.strength.set(0.1)
window.own_chroma.set(True)
window.chroma.set(1.0)
for _ in range(8):
    window._follow()
assert all(pane['image'] in root.image_names() for pane in window.panes)
assert window.choice == script.Choice(0.1, 1.0, 'fast', True)
window.on_apply()
wait()
assert siril.calls == ['get', 'get', 'undo', 'set'], siril.calls
assert 'Done' in window.said.get()
siril.pixels = None
window.on_apply()
wait()
assert 'no image' in window.said.get()
assert 'no image' in siril.boxes[0]
window.on_close()
sys.stdout.write('closed')
"""


def test_the_window_previews_applies_and_tells_errors():
    """On a screen of its own, where Xvfb and tkinter are installed."""
    pytest.importorskip('tkinter')
    if shutil.which('Xvfb') is None:
        pytest.skip('a window needs a screen: install Xvfb, which stands in for one')
    with subprocess.Popen(
        ['Xvfb', '-displayfd', '1', '-screen', '0', '1400x900x24', '-nolisten', 'tcp'],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as screen:  # fmt: skip
        try:
            number = screen.stdout.readline().strip()
            code = WINDOW.format(tests=str(ROOT / 'tests'), siril=str(SCRIPT.parent))
            done = subprocess.run(
                [sys.executable, '-c', code],
                cwd=ROOT, env={**os.environ, 'DISPLAY': f':{number}'},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        finally:
            screen.terminate()
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'closed'
