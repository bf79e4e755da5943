# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The files of one ``astrodenoise evaluate``: which belong together, read, denoised, measured, told.

Wrong usage is an `argparse.ArgumentError` here, as it is in the parser.
"""

import argparse
import json
from pathlib import Path

__all__ = ['evaluate_file', 'evaluate_files', 'find_partners']

SUFFIXES = ('.fits', '.fit', '.fts', '.fz', '.gz', '.png', '.tif', '.tiff')


def evaluate_files(args, *, failed, progress_bar=None):
    """
    Do all of ``astrodenoise evaluate``.

    Parameters
    ----------
    args : `argparse.Namespace`
        Its options: truth, noisy, denoised, pair, json, model, overwrite, verbose.
    failed : callable
        Is told the file and the error of each that fails; the others are done.
    progress_bar : callable, optional
        Wraps the tiles, as in `astrodenoise.denoise`.

    Returns
    -------
    text : str
        What to print.
    n_failed : int
        How many files failed.

    Raises
    ------
    argparse.ArgumentError
        If there is nothing to measure, or options contradict each other.
    FileExistsError
        If the file for the JSON exists and ``args.overwrite`` is not set.
    """
    jobs = find_partners(args.truth, args.noisy, args.denoised)
    _check_options(args)
    found, n_failed = {}, 0
    for name, files in jobs.items():
        try:
            _check_partners(*files)
            found[name] = evaluate_file(
                *files, pair=args.pair, model=args.model or 'default', progress_bar=progress_bar
            )
        except Exception as error:  # one bad file is no reason to leave the others
            n_failed += 1
            failed(str(files[1]), error)
    return (_told(found, args) if found else ''), n_failed


def _check_options(args):
    """Refuse what is wrong for every file."""
    if args.denoised is not None and args.model is not None:
        msg = '--model denoises NOISY, but DENOISED is given: leave one of them out'
        raise argparse.ArgumentError(None, msg)
    if args.model not in (None, 'default'):
        from astrodenoise.weights import describe

        try:
            describe(args.model)
        except ValueError as error:
            raise argparse.ArgumentError(None, ' '.join(str(error).split())) from error
    if args.json not in (None, '-'):
        from astrodenoise.atomic import check_target

        check_target(args.json, overwrite=args.overwrite)


def find_partners(truth, noisy, denoised=None):
    """
    Give the files that belong together: three files, or those of equal names in three folders.

    Parameters
    ----------
    truth, noisy : str
        Two files, or two folders.
    denoised : str, optional
        A third of the same kind. Without it the noisy frames are to be denoised.

    Returns
    -------
    jobs : dict of tuple
        Name -> `~pathlib.Path` of truth, noisy and denoised (None without one); a partner need
        not exist.

    Raises
    ------
    argparse.ArgumentError
        If files and folders are mixed, or the folder of noisy frames has none.
    """
    paths = [None if name is None else Path(name) for name in (truth, noisy, denoised)]
    given = [path for path in paths if path is not None]
    folders = [path.is_dir() for path in given]
    if not any(folders):
        return {paths[1].name: tuple(paths)}
    if not all(folders):
        file = given[folders.index(False)]
        msg = f'{given[folders.index(True)]} is a folder and {file} is none: give files or folders'
        raise argparse.ArgumentError(None, msg)
    names = sorted(
        path.name for path in paths[1].iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )  # fmt: skip
    if not names:
        msg = f'{noisy}: there is no FITS, PNG or TIFF file in this folder'
        raise argparse.ArgumentError(None, msg)
    return {name: tuple(path and path / name for path in paths) for name in names}


def _check_partners(truth, noisy, denoised):
    """Raise where a file of a folder has no partner of its name."""
    for partner in (truth, denoised):
        if partner is not None and not partner.exists():
            msg = f'{noisy} has no partner: there is no {partner}'
            raise FileNotFoundError(msg)


def evaluate_file(truth, noisy, denoised=None, *, pair=False, model='default', progress_bar=None):
    """
    Read and measure one frame.

    Pixels that are masked, not finite, without data, saturated or clipped do not count.

    Parameters
    ----------
    truth, noisy : `~os.PathLike`
        Files of the truth, or of a second exposure, and of the noisy frame.
    denoised : `~os.PathLike`, optional
        File of the denoised frame. Without it the noisy one is denoised.
    pair : bool, optional
        ``truth`` is a second exposure with noise of its own.
    model : str, optional
        What denoises.
    progress_bar : callable, optional
        Wraps the tiles, as in `astrodenoise.denoise`.

    Returns
    -------
    evaluation : `~astrodenoise.measures.figures.Evaluation`
        As `astrodenoise.quality.evaluate` or `~astrodenoise.quality.evaluate_pair` gives it.

    Raises
    ------
    FrameError
        If a file cannot be read.
    ValueError
        If the shapes differ, or the noise cannot be measured.
    """
    from astrodenoise.files import read_frame
    from astrodenoise.noise import leave_out_invalid
    from astrodenoise.quality import evaluate, evaluate_pair

    ccds, channels = {}, None
    for path in (truth, noisy, denoised):
        if path is not None:
            ccds[path], context = read_frame(path)
            channels = context.channels if path == noisy else channels
    _check_shapes(ccds)
    reference, frame = (_opened(ccds[path]) for path in (truth, noisy))
    leave_out_invalid(frame)
    predicted = None
    if denoised is None:
        from astrodenoise import denoise

        clean = _opened(denoise(
            ccds[noisy], model=model, channels=channels, uncertainty='predict',
            progress_bar=progress_bar,
        ))  # fmt: skip
        predicted = clean.sigma
    else:
        clean = _opened(ccds[denoised])  # its uncertainty may be the noisy frame's
    valid = reference.valid & frame.valid & clean.valid
    if pair:
        return evaluate_pair(frame.data, reference.data, clean.data, valid=valid)
    return evaluate(reference.data, frame.data, clean.data, error_map=predicted, valid=valid)


def _opened(ccd):
    from astrodenoise.frames import open_frame

    return open_frame(ccd)


def _check_shapes(ccds):
    """Raise unless all frames have one shape, and say which has which."""
    (first, ccd), *others = ccds.items()
    for path, other in others:
        if other.shape != ccd.shape:
            msg = (
                f'{path} has the shape {other.shape}, {first} {ccd.shape}: frames of one scene '
                'have one shape'
            )
            raise ValueError(msg)


def _told(found, args):
    """Give what is printed, and write the JSON where a file is given."""
    from astrodenoise.measures.figures import combine

    pooled = combine(found.values())
    if args.json is not None:
        content = {'frames': {name: evaluation.to_dict() for name, evaluation in found.items()}}
        if len(found) > 1:
            content['all'] = pooled.to_dict()
        text = json.dumps(content, indent=1, allow_nan=False)
        if args.json == '-':
            return text
        from astrodenoise.atomic import atomic_write

        with atomic_write(args.json, overwrite=args.overwrite) as handle:
            handle.write(f'{text}\n'.encode())
    if len(found) == 1:
        return str(pooled)
    each = [f'{name}\n\n{evaluation}\n' for name, evaluation in found.items()]
    return '\n'.join([*(each if args.verbose else []), f'{len(found)} frames\n\n{pooled}'])
