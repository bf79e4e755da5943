# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Decode in another process what may end the process that it runs in.

What comes back is numbers, so that nothing a file does there is carried on here.
"""

import io
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
from astropy.io import fits

__all__ = ['decode_apart', 'write_pixels']

_CODE = 'import sys; from astrodenoise.apart import write_pixels; write_pixels(*sys.argv[1:])'


def decode_apart(path, content, index):
    """
    Decode an image of a FITS file in a new Python, which may die of it.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file.
    content : bytes or None
        What is in it, where it is packed.
    index : int
        Number of the HDU.

    Returns
    -------
    values : `numpy.ndarray`
        Its pixels, as Astropy gives them.

    Raises
    ------
    ChildProcessError
        If the other process died, or could not decode the image.
    MemoryError
        If it had not enough memory.
    """
    if not sys.executable or getattr(sys, 'frozen', False):
        # inside another program there is no other Python to start
        with fits.open(path if content is None else io.BytesIO(content)) as hdus:
            return hdus[index].data
    # what this process can import, in its order; -P: and nothing that lies in the current folder
    places = os.pathsep.join(map(os.path.abspath, sys.path))
    name = os.path.abspath(path) if content is None else ''
    done = subprocess.run(
        [sys.executable, '-P', '-c', _CODE, name, str(index)],
        input=content or b'',
        capture_output=True,
        env=os.environ | {'PYTHONPATH': places},
        check=False,
    )
    if done.returncode:
        words = _last_words(done)
        if 'MemoryError' in words.partition(':')[0]:
            raise MemoryError(words)
        raise ChildProcessError(words)
    return np.load(io.BytesIO(done.stdout), allow_pickle=False)


def write_pixels(path, index):
    """
    Decode an image and write its pixels to standard output; the other side of `decode_apart`.

    Parameters
    ----------
    path : str
        The file; empty if its content comes from standard input.
    index : str
        Number of the HDU.
    """
    warnings.simplefilter('ignore')
    packed = io.BytesIO()  # NumPy writes to no pipe
    with fits.open(path or io.BytesIO(sys.stdin.buffer.read())) as hdus:
        np.save(packed, hdus[int(index)].data, allow_pickle=False)
    sys.stdout.buffer.write(packed.getbuffer())


def _last_words(done):
    if done.returncode < 0:
        return f'the process that unpacked it was ended by {signal.Signals(-done.returncode).name}'
    lines = done.stderr.decode(errors='replace').strip().splitlines()
    return lines[-1] if lines else f'the process that unpacked it ended with {done.returncode}'
