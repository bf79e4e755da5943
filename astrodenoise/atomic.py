# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Files that appear when they are complete, or not at all."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import socket
from pathlib import Path

__all__ = ['atomic_write', 'check_target', 'remove_stale']

# errors that only writing has, so that none of a file which is read meanwhile is taken for one
_OF_WRITING = {errno.ENOSPC, errno.EFBIG, getattr(errno, 'EDQUOT', errno.ENOSPC)}
_TEMPORARY = re.compile(r'\.astrodenoise-([0-9a-f]{8})-(\d+)-[0-9a-f]{16}\.part')


@contextlib.contextmanager
def atomic_write(path, *, overwrite=False):
    """
    Open a file that appears under its name when it is complete, or not at all.

    The bytes go to a temporary name in the same folder, are forced to the disk
    and renamed. The temporary file is removed when anything interrupts that.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file to write. A symbolic link is followed.
    overwrite : bool, optional
        Replace a file of that name.

    Yields
    ------
    handle : file object
        Open for writing bytes.

    Raises
    ------
    FileExistsError
        If there is a file of that name and ``overwrite`` is not set, even when
        it appeared while this one was written.
    OSError
        If nothing can be written in its folder, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    check_target(path, overwrite=overwrite)
    owner = f'{_place()}-{os.getpid()}'  # by which `remove_stale` knows whose it is
    temporary = target.parent / f'.astrodenoise-{owner}-{secrets.token_hex(8)}.part'
    try:
        with open(temporary, 'wb', opener=_create) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        _publish(temporary, target, path, overwrite)
    except OSError as error:
        if error.errno not in _OF_WRITING:
            raise
        msg = f'{path} cannot be written: {error.strerror}'
        raise OSError(msg) from error
    finally:
        with contextlib.suppress(OSError):  # of a read-only disk, say: the first error tells
            temporary.unlink(missing_ok=True)


def remove_stale(folder):
    """
    Remove the temporary files that killed processes of this machine left in a folder.

    Those of processes that live, or of other machines, stay.  After a restart of the machine, or
    under Windows, all stay.

    Parameters
    ----------
    folder : str or `~os.PathLike`
        The folder; it need not exist.

    Returns
    -------
    removed : list of `~pathlib.Path`
        The files.
    """
    removed = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match and match[1] == _place() and _is_dead(int(match[2])):
                Path(entry).unlink(missing_ok=True)
                removed.append(Path(entry))
    return removed


@functools.cache
def _place():
    """Name where a process number holds: the machine since it started, and the container."""
    parts = [socket.gethostname()]
    for read in (
        lambda: Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii'),
        lambda: os.readlink('/proc/self/ns/pid'),
    ):
        with contextlib.suppress(OSError):
            parts.append(read())
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:8]


def _is_dead(pid):
    if os.name == 'nt':  # where signal 0 is Ctrl-C
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False


def _create(path, flags):
    """Open a file that must not be there yet, for `open`; its mode stays a plain 'wb'."""
    try:
        return os.open(path, flags | os.O_EXCL, 0o666)
    except OSError as error:
        msg = f'nothing can be written in {os.path.dirname(path)}: {error.strerror}'
        raise OSError(msg) from error


def check_target(path, *, overwrite=False):
    """
    Refuse a name that could not be written to.

    Parameters
    ----------
    path : str or `~os.PathLike`
        The file to write. A symbolic link is followed.
    overwrite : bool, optional
        Whether a file of that name may be replaced.

    Raises
    ------
    FileExistsError
        If there is a file of that name and ``overwrite`` is not set, or
        something that is no ordinary file.
    FileNotFoundError
        If its folder does not exist.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        msg = f'{path}: there is no folder {target.parent}; make it first'
        raise FileNotFoundError(msg)
    if target.exists() and not target.is_file():
        msg = f'{path}: exists and is no ordinary file; give another name'
        raise FileExistsError(msg)
    if target.exists() and not overwrite:
        raise _exists(path)


def _exists(path):
    msg = f'{path}: the file exists; give --overwrite (overwrite=True) to replace it'
    return FileExistsError(msg)


def _publish(temporary, target, path, overwrite):
    """Give a complete file its name."""
    if overwrite:
        os.replace(temporary, target)
    else:
        try:
            os.link(temporary, target)  # unlike a rename, it never replaces a file
        except FileExistsError as error:
            raise _exists(path) from error
        except OSError:  # no hard links on this file system
            if target.exists():
                raise _exists(path) from None
            os.replace(temporary, target)
    with contextlib.suppress(OSError):  # not every system can sync a folder
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
