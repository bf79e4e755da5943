# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
A frame that is read from a file piece by piece, and its result on disk.

The memory that it takes does not grow with the frame.
"""

import os
import tempfile
import threading
import weakref

import numpy as np

from astrodenoise.pieces import PiecewiseFrame

__all__ = ['DiskFrame', 'DiskPlanes']

READ = 1 << 22  # values that are read at once where all are wanted


class DiskFrame(PiecewiseFrame):
    """
    A frame in a file; what is made of it goes to nameless files.

    Parameters
    ----------
    ccd : `~astropy.nddata.CCDData`
        Whose planes give an array when they are sliced.
    folder : `~pathlib.Path`
        Where there is room for the results.

    Raises
    ------
    TypeError, ValueError, `~astropy.units.UnitsError`
        As for `astrodenoise.pieces.PiecewiseFrame`.
    """

    def __init__(self, ccd, folder):
        super().__init__(ccd)
        self._folder = folder

    def empty(self, dtype):
        """
        Make room for planes on disk.

        Parameters
        ----------
        dtype : `numpy.dtype`
            Of the pixels.

        Returns
        -------
        planes : `DiskPlanes`
            Of zeros.
        """
        return DiskPlanes(self.shape, dtype, self._folder)


class DiskPlanes:
    """
    Planes of pixels in a file without a name, gone when nobody refers to it any more.

    Parameters
    ----------
    shape : tuple of int
        (N, H, W).
    dtype : `numpy.dtype`
        Of the pixels.
    folder : `~pathlib.Path`
        Where the file lies.

    Attributes
    ----------
    shape : tuple of int
        (N, H, W), (H, W) or the number of all pixels.
    dtype : `numpy.dtype`
        Of the pixels.
    """

    def __init__(self, shape, dtype, folder):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._store, self._first = _Store(self.size * self.dtype.itemsize, folder), 0

    @property
    def ndim(self):
        """Number of axes (int)."""
        return len(self.shape)

    @property
    def size(self):
        """Number of pixels (int)."""
        return int(np.prod(self.shape))

    def __len__(self):
        return self.shape[0]

    def __setitem__(self, at, block):
        """Write a block of whole planes, rows and columns: three slices."""
        planes, rows, cols = at
        _, height, width = self.shape
        block = np.ascontiguousarray(block, self.dtype)
        for plane, values in zip(range(*planes.indices(self.shape[0])), block, strict=True):
            start = (plane * height + rows.start) * width + cols.start
            if cols.stop - cols.start == width:
                self._write(values, start)
                continue
            for number, row in enumerate(values):
                self._write(row, start + number * width)

    def __getitem__(self, part):
        """Give a plane, or read a slice of all pixels in a row, or planes of whole rows."""
        if isinstance(part, slice) and self.ndim == 1:
            start, stop, _ = part.indices(self.shape[0])
            return self._read(start, stop)
        if self.ndim == 3 and isinstance(part, tuple):
            return self._rows(*part)
        if self.ndim == 3 and isinstance(part, int):
            return self._view(self.shape[1:], part * self.shape[1] * self.shape[2])
        return np.asarray(self)[part]

    def reshape(self, shape):
        """
        Give all pixels in a row.

        Parameters
        ----------
        shape : int
            -1.

        Returns
        -------
        pixels : `DiskPlanes`
            Of one axis; a slice of it is read.
        """
        if shape != -1:
            msg = f'planes on disk are given as one row, reshape(-1), not as {shape}'
            raise ValueError(msg)
        return self._view((self.size,), 0)

    def __array__(self, dtype=None, copy=None):
        """Read everything."""
        parts = [self._read(i, min(i + READ, self.size)) for i in range(0, self.size, READ)]
        return np.concatenate(parts).reshape(self.shape).astype(dtype or self.dtype, copy=False)

    def __deepcopy__(self, memo):
        """Nobody changes it any more when it is copied around."""
        return self

    def _view(self, shape, first):
        view = object.__new__(DiskPlanes)
        view.shape, view.dtype, view._store = shape, self.dtype, self._store
        view._first = self._first + first
        return view

    def _rows(self, planes, rows, cols):
        """Read whole rows of some planes."""
        _, height, width = self.shape
        n_rows = rows.stop - rows.start
        numbers = range(*planes.indices(self.shape[0]))
        starts = [(number * height + rows.start) * width for number in numbers]
        values = [self._read(start, start + n_rows * width) for start in starts]
        return np.stack(values).reshape(-1, n_rows, width)[:, :, cols]

    def _write(self, values, start):
        self._store.write(memoryview(values).cast('B'), (self._first + start) * self.dtype.itemsize)

    def _read(self, start, stop):
        values = np.empty(stop - start, self.dtype)
        self._store.read(memoryview(values).cast('B'), (self._first + start) * self.dtype.itemsize)
        return values


class _Store:
    """Bytes in a file that has no name and is gone with its last user, even by a crash."""

    def __init__(self, size, folder):
        self._file, self._lock = _nameless_file(folder), threading.Lock()
        weakref.finalize(self, self._file.close)
        # a disk that is too small says so now, and not after the work
        if hasattr(os, 'posix_fallocate'):
            os.posix_fallocate(self._file.fileno(), 0, size)
        else:
            self._file.truncate(size)

    def write(self, data, offset):
        """Write bytes at a place."""
        with self._lock:
            self._file.seek(offset)
            while data:
                data = data[self._file.write(data) :]

    def read(self, data, offset):
        """Fill a buffer from a place."""
        with self._lock:
            self._file.seek(offset)
            while data:
                data = data[self._file.readinto(data) :]


def _nameless_file(folder):
    return tempfile.TemporaryFile(buffering=0, dir=folder)
