# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What a file said beside the pixels of its frame."""

import dataclasses
from pathlib import Path

import numpy as np

__all__ = ['FrameContext', 'FrameError', 'missing_package']


class FrameError(OSError, ValueError):
    """A file holds no frame that can be used; the message names it and the reason."""


@dataclasses.dataclass(frozen=True)
class FrameContext:
    """
    What `write_frame` needs to know of the file that a frame came from.

    Attributes
    ----------
    path : `~pathlib.Path`
        The file.
    kind : {'fits', 'png', 'tiff', 'xisf'}
        Its format.
    dtype : `~numpy.dtype`
        The type of the pixels in the file; of a picture, in the one to write.
    scale : float
        Of a picture: what its pixels are multiplied by where the one to write is deeper.
    channels : {'joint', None}
        ``'joint'`` where the file itself says that its three planes are the
        colours of one camera (a colour picture, ``CTYPE3 = 'RGB'``).
    shape : tuple of int
        (H, W) or (N, H, W).
    hdu : int
        The number of the image in the file, 0 for the primary HDU.
    key : (str, int)
        The name and the version of the image.
    label : str
        What to call it beside the file's name.
    n_images : int
        How many images the file has that are frames of the sky.
    version : int
        ``EXTVER`` of what is made of it: its own, or its number in the file where several frames
        have the same.
    weight : bool
        Whether its uncertainty is a weight, whose level only the frame tells.
    cards : tuple of str
        The cards of the image's header, 80 characters each, as in the file.
    keywords : tuple of str
        The keywords of the header that the frame was given as its ``meta``.
    span : tuple of int
        First byte of the image's header, first byte after its data.
    uncertainty_span : tuple of int or None
        The same of the HDU of this file that holds the image's uncertainty.
    predicted_span : tuple of int or None
        The same of the predicted error that an earlier run wrote.
    extras : dict
        Of a picture: what is written back beside its pixels.
    """

    path: Path
    kind: str
    dtype: np.dtype
    scale: float = 1.0
    channels: str | None = None
    shape: tuple = ()
    hdu: int = 0
    key: tuple = ('', 1)
    label: str = ''
    n_images: int = 1
    version: int = 1
    weight: bool = False
    cards: tuple = ()
    keywords: tuple = ()
    span: tuple = (0, 0)
    uncertainty_span: tuple | None = None
    predicted_span: tuple | None = None
    extras: dict = dataclasses.field(default_factory=dict)


def missing_package(path, what, package):
    """
    Make the error of a file whose format needs a package that is not installed.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file.
    what : str
        What needs it.
    package : str
        Its name.

    Returns
    -------
    error : FrameError
        With what to install.
    """
    msg = f"{path}: {what} needs {package}: pip install 'astrodenoise[images]'"
    return FrameError(msg)
