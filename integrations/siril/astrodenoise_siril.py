# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Denoise the image that is loaded in Siril 1.4, as one of its Python scripts.

Not tried in Siril yet: written after the documentation of sirilpy, tested against a stand-in.

From Siril's menu it opens a window: strength, strength of the colour noise, a preview of the
selection, apply.  With arguments, or in siril-cli, it denoises the image at once::

    pyscript astrodenoise_siril.py --strength 0.85
"""

import argparse
import importlib
import queue
import re
import sys
import threading
import traceback
import warnings
import zlib
from dataclasses import dataclass, replace

import numpy as np
import sirilpy

STRENGTH = 0.85  # all of the noise taken looks too smooth to most eyes
PANE = 384  # px, side of the part that is previewed, shown 1:1
MARGIN = 64  # px around it that the network sees
UNDO_BYTES = 70  # of Siril's HISTORY line
LOG_BYTES = 1000  # of one line in Siril's console
BAYER = ('RGGB', 'BGGR', 'GRBG', 'GBRG')


class CannotDenoiseError(Exception):
    """What the user is told, in a sentence."""


@dataclass(frozen=True)
class Choice:
    """What the user asks for; ``chroma`` None: as ``strength``."""

    strength: float = STRENGTH
    chroma: float | None = None
    model: str = 'default'
    joint: bool = True  # three planes are colours of one camera

    def for_pixels(self, pixels):
        """Give the arguments of `astrodenoise.denoise` for an image of this shape."""
        joint = self.joint and is_colour(pixels)
        if self.chroma is not None and not joint:
            msg = 'the colour strength is for three colours of one camera: leave it out'
            raise CannotDenoiseError(msg)
        return {
            'model': self.model,
            'channels': 'joint' if joint else None,
            'strength': self.strength,
            'strength_chroma': self.chroma,
        }

    def line(self):
        """Give the line for Siril's undo list and the image's HISTORY."""
        from astrodenoise import __version__

        parts = [f'astrodenoise {__version__}', f'strength {self.strength:g}']
        if self.chroma is not None:
            parts.append(f'colour {self.chroma:g}')
        if self.model != 'default':
            parts.append(f'model {self.model}')
        text = re.sub('["%]', '', ', '.join(parts))  # Siril reads them as quotes and formats
        return cut(text, UNDO_BYTES)


@dataclass(frozen=True)
class Preview:
    """A part of the image, and what full strength takes out of it; rows as Siril has them."""

    pixels: np.ndarray
    removed: np.ndarray

    def clean(self, choice):
        """Give the part as ``choice`` leaves it; arithmetic alone."""
        from astrodenoise import blend

        shares = choice.for_pixels(self.pixels)
        return blend(
            self.pixels, self.removed, strength=shares['strength'],
            strength_chroma=shares['strength_chroma'], channels=shares['channels'],
        )  # fmt: skip


class Image:
    """The image that is loaded in Siril."""

    def __init__(self, siril):
        self.siril = siril
        self._noise = None, None
        self._made = None  # checksum of what was written last

    def apply(self, choice):
        """Denoise the whole image; Siril can undo it."""
        from astrodenoise import denoise

        with self.siril.image_lock():
            pixels = self._read()
            with self._telling():
                noise = self._measured(pixels)
                clean = denoise(
                    pixels, noise=noise, progress_bar=self._progress, **choice.for_pixels(pixels)
                )
            clean = like(pixels, clean)
            has_undo = not self.siril.is_cli()  # siril-cli refuses to save a state
            if has_undo:
                self.siril.undo_save_state(choice.line())
            self.siril.set_image_pixeldata(clean)
        self._made = zlib.crc32(clean)
        if not has_undo:
            self._note(choice.line())
        self.siril.log(f'{choice.line()}: done', sirilpy.LogColor.GREEN)

    def _note(self, line):
        """Write a COMMENT where there is no undo, which would write HISTORY."""
        try:
            self.siril.cmd('update_key', '-comment', f'"{line}"')
        except sirilpy.SirilError as error:
            self._warn(f'the header has no note of the denoising: {error}')

    def preview(self, choice):
        """Give the selection, or the middle of the image, and its noise."""
        from astrodenoise import denoise

        with self.siril.image_lock():
            pixels = self._read()
            selection = self.siril.get_siril_selection()
        rows, cols = part_of(pixels.shape[-2:], selection)
        around = [
            slice(max(one.start - MARGIN, 0), min(one.stop + MARGIN, n))
            for one, n in zip((rows, cols), pixels.shape[-2:], strict=True)
        ]
        window = np.ascontiguousarray(pixels[..., around[0], around[1]])
        with self._telling():
            noise = cropped(self._measured(pixels), *around)
            full = replace(choice, strength=1.0, chroma=None)
            clean = denoise(
                window, noise=noise, progress_bar=self._progress, **full.for_pixels(pixels)
            )
        inner = tuple(
            slice(one.start - out.start, one.stop - out.start)
            for one, out in zip((rows, cols), around, strict=True)
        )
        before = window[(..., *inner)]
        return Preview(before, before.astype(clean.dtype) - clean[(..., *inner)])

    def _read(self):
        if not self.siril.is_image_loaded():
            msg = 'no image is loaded: open one first'
            raise CannotDenoiseError(msg)
        pixels = self.siril.get_image_pixeldata()
        if pixels is None:
            msg = 'Siril gave no pixels of this image'
            raise CannotDenoiseError(msg)
        self._look_at_header(pixels)
        return pixels

    def _look_at_header(self, pixels):
        from astropy.io import fits

        from astrodenoise import read_provenance

        text = self.siril.get_image_fits_header() or ''
        try:
            header = fits.Header.fromstring(text, sep='\n')
            before = read_provenance(header)
            pattern = str(header.get('BAYERPAT', '')).strip().upper()
        except (ValueError, TypeError, KeyError, fits.VerifyError):
            return  # a header that cannot be read tells nothing
        notes = [str(line) for name in ('HISTORY', 'COMMENT') for line in header.get(name, [])]
        if before or any(line.startswith('astrodenoise ') for line in notes) or (
            self._made == zlib.crc32(np.ascontiguousarray(pixels))
        ):  # fmt: skip
            self._warn('this image was denoised before: undo that and denoise the original once')
        if pattern in BAYER and not is_colour(pixels):
            self._warn(f'this may be a raw {pattern} mosaic: debayer it, or stack it, first')

    def _measured(self, pixels):
        """Give the noise of the whole frame, measured once per image."""
        from astrodenoise import measure_noise

        key = pixels.shape, pixels.dtype.str, zlib.crc32(np.ascontiguousarray(pixels))
        if self._noise[0] != key:
            self._noise = key, measure_noise(pixels)
        return self._noise[1]

    def _progress(self, things, total=None, **_):
        """Iterate and move Siril's progress bar."""
        total = len(things) if total is None and hasattr(things, '__len__') else total
        shown = 0
        try:
            for number, thing in enumerate(things):
                yield thing
                share = (number + 1) / total if total else 0
                if share >= shown + 0.01:  # each one is a message to Siril
                    self.siril.update_progress('astrodenoise', min(share, 1.0))
                    shown = share
        finally:
            self.siril.reset_progress()

    def _telling(self):
        return Telling(self._warn)

    def _warn(self, text):
        self.siril.log(cut(f'astrodenoise: {text}', LOG_BYTES), sirilpy.LogColor.SALMON)


class Telling(warnings.catch_warnings):
    """Send the package's warnings somewhere, as long as the context is open."""

    def __init__(self, tell):
        super().__init__(record=True)
        self._tell, self._caught = tell, []

    def __enter__(self):
        self._caught = super().__enter__()
        warnings.simplefilter('always')
        return self

    def __exit__(self, *exception):
        super().__exit__(*exception)
        for text in dict.fromkeys(str(one.message) for one in self._caught):
            self._tell(text)


def is_colour(pixels):
    """Tell whether an image has three planes."""
    return pixels.ndim == 3 and pixels.shape[0] == 3


def like(pixels, clean):
    """Give the result in the type that Siril has the image in."""
    if pixels.dtype == np.uint16:
        clean = np.clip(np.rint(clean), 0, 65535)
    return np.ascontiguousarray(clean, dtype=pixels.dtype)


def cropped(noise, rows, cols):
    """Give the noise of a part of a frame."""
    return replace(noise, planes=tuple(plane.part(rows, cols) for plane in noise.planes))


def part_of(shape, selection):
    """
    Give the rows and columns to preview: the middle of the selection or of the image.

    A selection is counted from the top of the picture, Siril's rows from its bottom.
    """
    height, width = shape
    x, y, w, h = selection or (0, 0, width, height)
    if w <= 0 or h <= 0:
        x, y, w, h = 0, 0, width, height
    return tuple(
        _middle(max(start, 0), min(start + length, n))
        for start, length, n in ((height - y - h, h, height), (x, w, width))
    )


def _middle(start, stop):
    over = max(stop - start - PANE, 0)
    start += over // 2
    return slice(start, min(stop, start + PANE))


def cut(text, n_bytes):
    """Shorten a text to what Siril takes."""
    return text.encode()[:n_bytes].decode(errors='ignore')


def picture(pixels, low, high, middle):
    """Stretch planes for the screen and give them as a PPM file, top row first."""
    planes = np.atleast_3d(np.moveaxis(pixels, 0, -1)) if pixels.ndim == 3 else pixels[..., None]
    share = np.clip((planes - low) / (high - low), 0, 1)
    share = (middle - 1) * share / ((2 * middle - 1) * share - middle)  # midtones transfer
    levels = np.broadcast_to(share, (*share.shape[:2], 3))[::-1]
    head = f'P6 {levels.shape[1]} {levels.shape[0]} 255\n'.encode()
    return head + np.rint(255 * levels).astype(np.uint8).tobytes()


def stretch_of(pixels):
    """Give low, high and middle of a stretch of each plane that shows faint things."""
    planes = np.asarray(pixels, float).reshape(-1, *pixels.shape[-2:])
    median = np.median(planes, axis=(1, 2))
    spread = 1.4826 * np.median(np.abs(planes - median[:, None, None]), axis=(1, 2))
    low = median - 2.8 * spread
    high = np.maximum(planes.max(axis=(1, 2)), low + 1e-6)
    share = np.clip((median - low) / (high - low), 1e-6, 0.5)
    middle = share * 0.75 / (share - 2 * 0.25 * share + 0.25)  # brings the median to 0.25
    return low, high, middle


def stretch_of_noise(removed):
    """Give low, high and middle that show noise of either sign as grey."""
    spread = 4 * max(float(np.std(removed)), 1e-9)
    return -spread, spread, 0.5


class Window:
    """What Siril's user sees."""

    def __init__(self, siril, root, tk, ttk):
        self.image = Image(siril)
        self.siril, self.root, self.tk = siril, root, tk
        self.preview = None
        self.jobs = queue.Queue()
        root.title('astrodenoise')
        root.resizable(False, False)
        root.protocol('WM_DELETE_WINDOW', self.on_close)
        self.busy = False
        self._variables()
        box = ttk.Frame(root, padding=12)
        box.grid()
        self._panes(ttk, box)
        self._sliders(ttk, box)
        self._buttons(ttk, box)
        self._follow()

    def _variables(self):
        self.strength = self.tk.DoubleVar(self.root, STRENGTH)
        self.own_chroma = self.tk.BooleanVar(self.root, value=False)
        self.chroma = self.tk.DoubleVar(self.root, STRENGTH)
        self.model = self.tk.StringVar(self.root, 'default')
        self.joint = self.tk.BooleanVar(self.root, value=True)
        self.said = self.tk.StringVar(
            self.root, 'Preview shows the selection, or the middle of the image.'
        )

    def _panes(self, ttk, box):
        self.panes = []
        for column, title in enumerate(('Before', 'After', 'Taken out')):
            ttk.Label(box, text=title).grid(row=0, column=column, sticky='w')
            pane = self.tk.Label(box)
            pane.grid(row=1, column=column, padx=2)
            self.panes.append(pane)
            self._paint(column, np.zeros((PANE, PANE)), (0, 1, 0.5))

    def _sliders(self, ttk, box):
        grid = ttk.Frame(box)
        grid.grid(row=2, column=0, columnspan=3, sticky='ew', pady=8)
        grid.columnconfigure(1, weight=1)
        self.chroma_slider = None
        rows = (
            (ttk.Label(grid, text='Strength'), self.strength),
            (
                ttk.Checkbutton(
                    grid, text='Colour noise by itself', variable=self.own_chroma,
                    command=self._follow,
                ),
                self.chroma,
            ),
        )  # fmt: skip
        for row, (label, variable) in enumerate(rows):
            label.grid(row=row, column=0, sticky='w', padx=(0, 8))
            slider = ttk.Scale(grid, from_=0, to=1, variable=variable, command=self._follow)
            slider.grid(row=row, column=1, sticky='ew')
            number = ttk.Label(grid, width=5)
            number.grid(row=row, column=2)
            variable.trace_add(
                'write', lambda *_, n=number, v=variable: n.configure(text=f'{v.get():.2f}')
            )
            variable.set(variable.get())  # writes the number
            self.chroma_slider = slider
        more = ttk.Frame(grid)
        more.grid(row=2, column=0, columnspan=3, sticky='w', pady=(6, 0))
        ttk.Label(more, text='Model').grid(row=0, column=0, padx=(0, 8))
        ttk.Combobox(
            more, values=('default', 'fast'), textvariable=self.model, state='readonly', width=8
        ).grid(row=0, column=1)
        ttk.Checkbutton(
            more, text='Red, green and blue are of one colour camera', variable=self.joint
        ).grid(row=0, column=2, padx=12)

    def _buttons(self, ttk, box):
        ttk.Label(box, textvariable=self.said, wraplength=2 * PANE).grid(
            row=3, column=0, columnspan=2, sticky='w'
        )
        bar = ttk.Frame(box)
        bar.grid(row=3, column=2, sticky='e')
        self.buttons = []
        for column, (text, command) in enumerate((
            ('Preview', self.on_preview), ('Apply', self.on_apply), ('Close', self.on_close),
        )):  # fmt: skip
            button = ttk.Button(bar, text=text, command=command)
            button.grid(row=0, column=column, padx=2)
            self.buttons.append(button)

    @property
    def choice(self):
        """What is set in the window."""
        chroma = round(self.chroma.get(), 3) if self.own_chroma.get() else None
        return Choice(round(self.strength.get(), 3), chroma, self.model.get(), self.joint.get())

    def on_preview(self):
        """Denoise the part that is shown."""
        self._start('Measuring and denoising the preview', self.image.preview, self._show)

    def on_apply(self):
        """Denoise the whole image."""
        self._start('Denoising the image', self.image.apply, self._applied)

    def on_close(self):
        """Close the window, but not while Siril's image is worked on."""
        if not self.busy:
            self.root.destroy()

    def _start(self, said, work, done):
        """Work beside the window, which stays alive; tkinter is for this thread alone."""
        self.said.set(f'{said} ...')
        self._set_busy(True)
        choice = self.choice

        def run():
            try:
                self.jobs.put((done, work(choice)))
            except Exception as error:  # whatever it is, the user is told
                self.jobs.put((self._failed, error))

        threading.Thread(target=run, daemon=True).start()
        self.root.after(50, self._poll)

    def _poll(self):
        try:
            done, result = self.jobs.get_nowait()
        except queue.Empty:
            self.root.after(50, self._poll)
            return
        self._set_busy(False)
        done(result)

    def _set_busy(self, busy):
        self.busy = busy
        for button in self.buttons:
            button.state(['disabled' if busy else '!disabled'])

    def _failed(self, error):
        self.said.set(told(error))
        tell_failed(self.siril, error, box=True)

    def _applied(self, _):
        self.said.set('Done. Undo in Siril gives the image back.')

    def _show(self, preview):
        self.preview = preview
        self.stretch = stretch_of(preview.pixels)
        self._paint(0, preview.pixels, self.stretch)
        self.said.set('Strength can be moved now: the preview follows.')
        self._follow()

    def _follow(self, *_):
        """Bring the window in line with its sliders."""
        self.chroma_slider.state(['!disabled' if self.own_chroma.get() else 'disabled'])
        if self.preview is None:
            return
        try:
            clean = self.preview.clean(self.choice)
        except (CannotDenoiseError, ValueError) as error:
            self.said.set(told(error))
            return
        self._paint(1, clean, self.stretch)
        removed = self.preview.pixels.astype(clean.dtype) - clean
        self._paint(2, removed, stretch_of_noise(self.preview.removed))

    def _paint(self, number, pixels, stretch):
        pane = self.panes[number]
        photo = self.tk.PhotoImage(master=self.root, data=picture(pixels, *stretch))
        pane.configure(image=photo)
        pane.photo = photo  # tkinter shows it as long as somebody keeps it


def told(error):
    """Give an error as one sentence."""
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if isinstance(error, CannotDenoiseError | ValueError) else (
        f'{type(error).__name__}: {text}'
    )  # fmt: skip


def tell_failed(siril, error, *, box):
    """Tell the user what went wrong: in the console, and in a box where there is a screen."""
    text = cut(f'astrodenoise: {told(error)}', LOG_BYTES)
    if not isinstance(error, CannotDenoiseError):
        sys.stderr.write(''.join(traceback.format_exception(error)))
    siril.log(text, sirilpy.LogColor.RED)
    if box:
        siril.error_messagebox(text)


def check_installed():
    """Refuse to go on without the package, and say how it is installed."""
    try:
        importlib.import_module('astrodenoise')
    except ImportError as error:
        msg = (
            "the package astrodenoise is not in Siril's Python: in a clone of it run "
            f'"{sys.executable}" -m pip install -c constraints.txt .'
        )
        raise CannotDenoiseError(msg) from error


def share(text):
    """Read a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        msg = f'must be from 0 to 1, got {text}'
        raise argparse.ArgumentTypeError(msg)
    return value


def parse(argv):
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        prog='astrodenoise_siril.py', description='denoise the image that is loaded in Siril'
    )
    parser.add_argument('--strength', type=share, default=STRENGTH, help='of the noise to take out')
    parser.add_argument('--chroma', type=share, help='the same of its colour (as strength)')
    parser.add_argument('--model', default='default', help="'default', 'fast' or a model's file")
    parser.add_argument(
        '--separate', action='store_true', help='the planes are not the colours of one camera'
    )
    args = parser.parse_args(argv)
    return Choice(args.strength, args.chroma, args.model, joint=not args.separate)


def make_root(siril):
    """Make a window that looks like Siril."""
    import tkinter as tk

    try:
        from sirilpy import tksiril
        from ttkthemes import ThemedTk
    except ImportError:
        return tk.Tk()
    root = ThemedTk()
    tksiril.match_theme_to_siril(root, siril)
    return root


def main(argv=None):
    """
    Run the script.

    Returns
    -------
    status : int
        0, or 1 where the image was not denoised.
    """
    argv = sys.argv[1:] if argv is None else argv
    choice = parse(argv)
    siril = sirilpy.SirilInterface()
    try:
        siril.connect()
    except sirilpy.SirilConnectionError as error:
        sys.stderr.write(f'astrodenoise: no connection to Siril: {error}\n')
        return 1
    at_once = bool(argv) or siril.is_cli()
    try:
        check_installed()
        if at_once:
            Image(siril).apply(choice)
        else:
            import tkinter as tk
            from tkinter import ttk

            root = make_root(siril)
            Window(siril, root, tk, ttk)
            root.mainloop()
    except Exception as error:  # whatever it is, the user is told
        tell_failed(siril, error, box=not at_once)
        return 1
    finally:
        siril.disconnect()
    return 0


if __name__ == '__main__':
    sys.exit(main())
