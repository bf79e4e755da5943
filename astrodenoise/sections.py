# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
A frame in blocks, so that no array but the result grows with it.

The blocks are fixed by the frame's shape alone.  Whoever denoises a part of a frame works in whole
blocks with the same surroundings, so that the result does not depend on how a frame was divided.
"""

__all__ = ['BLOCK', 'MARGIN', 'block_edges', 'widened']

BLOCK = 1024  # px, about the side of a block
ALIGN = 16  # px; blocks begin where those of the local level do
MARGIN = 224  # px around a part, in which its local level and what fills its gaps are decided


def block_edges(n, *, size=None):
    """
    Divide an axis into blocks of about the same length.

    Parameters
    ----------
    n : int
        Length of the axis in px.
    size : int, optional
        About the length of a block in px, by default 1024; an axis shorter than 1.5 of it is one.

    Returns
    -------
    edges : list of int
        First pixel of each block, multiples of 16, and ``n`` at the end.
    """
    n_blocks = max(1, round(n / (size or BLOCK)))
    return [ALIGN * round(n * i / n_blocks / ALIGN) for i in range(n_blocks)] + [n]


def widened(part, margin, n):
    """
    Widen a part of an axis on both sides.

    Parameters
    ----------
    part : slice
        The part, with its ends.
    margin : int
        Pixels that are added at least.
    n : int
        Length of the axis.

    Returns
    -------
    wide : slice
        Within the axis; its start is a multiple of 16.
    """
    start = max(part.start - margin, 0) // ALIGN * ALIGN
    return slice(start, min(part.stop + margin, n))
