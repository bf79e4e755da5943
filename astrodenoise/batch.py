# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The files of one ``astrodenoise denoise``: what is written where, and each of them done.

Wrong usage is an `argparse.ArgumentError` here, as it is in the parser.
"""

import argparse
import os
from pathlib import Path

__all__ = ['check_options', 'denoise_file', 'plan']


def check_options(args):
    """
    Refuse options that contradict each other or are wrong for every file.

    Parameters
    ----------
    args : `argparse.Namespace`
        The options of ``astrodenoise denoise``.

    Raises
    ------
    argparse.ArgumentError
        If two of them contradict each other, or there is no such model or device.
    """
    if args.overwrite and args.resume:
        msg = '--resume keeps the outputs that exist and --overwrite replaces them: give one'
        raise argparse.ArgumentError(None, msg)
    if (args.gain is None) != (args.read_noise is None):
        msg = '--gain and --read-noise describe the noise together: give both'
        raise argparse.ArgumentError(None, msg)
    if args.gain is not None and args.noise is not None:
        msg = 'the noise is given twice: give --noise, or --gain and --read-noise'
        raise argparse.ArgumentError(None, msg)
    if args.blend == 'none' and args.overlap:
        msg = '--blend none lays tiles side by side: give --overlap 0 with it'
        raise argparse.ArgumentError(None, msg)
    try:
        if args.model != 'default':
            from astrodenoise.weights import describe

            describe(args.model)
        if args.device != 'auto':
            from astrodenoise.engine import choose_device

            choose_device(args.device)
    except ValueError as error:
        raise argparse.ArgumentError(None, ' '.join(str(error).split())) from error


def plan(inputs, output, residual=None):
    """
    Give the files to write for every input, and make the folders of several.

    Parameters
    ----------
    inputs : list of str
        The files to read.
    output : str
        The file to write, or the folder where it is one, ends in a slash or the
        inputs are several.
    residual : str, optional
        The same for input minus output. The default writes none.

    Returns
    -------
    jobs : list of (str, `~pathlib.Path`, `~pathlib.Path` or None)
        Input, output and residual.

    Raises
    ------
    argparse.ArgumentError
        If a folder is missing, or two files would be written under one name, or
        one over an input.
    """
    targets = _targets(inputs, output, '-o')
    residuals = [None] * len(targets)
    if residual is not None:
        residuals = _targets(inputs, residual, '--residual')
    _check_collisions(inputs, [*targets, *filter(None, residuals)])
    return list(zip(inputs, targets, residuals, strict=True))


def _targets(inputs, output, option):
    """Give the file to write per input, and make their folder."""
    folder = Path(output)
    if len(inputs) == 1 and not folder.is_dir() and not output.endswith(('/', os.sep)):
        return [folder]
    if folder.exists() and not folder.is_dir():
        msg = f'{option} {output} is a file; {len(inputs)} inputs need a folder'
        raise argparse.ArgumentError(None, msg)
    targets = [folder / Path(name).name for name in inputs]
    doubled = sorted({target.name for target in targets if targets.count(target) > 1})
    if doubled:
        msg = f'{option} {output}: several inputs are called {", ".join(doubled)}'
        raise argparse.ArgumentError(None, msg)
    if not folder.parent.is_dir():
        msg = f'{option} {output}: there is no folder {folder.parent}; make it first'
        raise argparse.ArgumentError(None, msg)
    folder.mkdir(exist_ok=True)
    return targets


def _check_collisions(inputs, outputs):
    """Refuse to write over an input or to write two results to one file."""
    taken = {os.path.realpath(name): name for name in inputs}
    for output in outputs:
        name = os.path.realpath(output)
        if name in taken:
            msg = f'{output} is read or written already as {taken[name]}; give another name'
            raise argparse.ArgumentError(None, msg)
        taken[name] = output


def denoise_file(source, target, residual, args, *, progress_bar=None):
    """
    Read, denoise and write one file.

    Parameters
    ----------
    source : str
        The file to read.
    target : `~pathlib.Path`
        The file to write.
    residual : `~pathlib.Path` or None
        The file for input minus output.
    args : `argparse.Namespace`
        The options of ``astrodenoise denoise``.
    progress_bar : callable, optional
        Wraps the tiles, as in `astrodenoise.denoise`.

    Raises
    ------
    FrameError
        If the file cannot be read, or its kind cannot be written under these names.
    FileExistsError
        If one of the files to write exists and ``args.overwrite`` is not set.
    """
    from astrodenoise.files import check_output, read_frame, write_frame

    ccd, context = read_frame(source, ext=args.ext, unit=args.unit)
    check_output(target, context, overwrite=args.overwrite)
    if residual is not None:
        _check_residual(residual, context, args)
    clean = _denoised(ccd, context, args, progress_bar)
    write_frame(
        target,
        clean,
        context,
        overwrite=args.overwrite,
        keep_uncertainty=args.uncertainty == 'keep',
    )
    if residual is not None:
        difference = _difference(ccd, clean)
        write_frame(residual, difference, context, overwrite=args.overwrite, alone=True)


def _denoised(ccd, context, args, progress_bar):
    from astrodenoise import denoise

    return denoise(
        ccd,
        args.overlap,
        model=args.model,
        strength=args.strength,
        limit=args.limit,
        noise=_given_noise(ccd, args),
        channels=args.channels or context.channels,
        saturation=args.saturation,
        uncertainty=None if args.uncertainty == 'none' else args.uncertainty,
        tile_size=args.tile_size,
        blend=args.blend,
        device=args.device,
        precision=args.precision,
        progress_bar=progress_bar,
    )


def _given_noise(ccd, args):
    if args.gain is None:
        return args.noise
    from astropy import units as u

    return args.gain * u.electron / ccd.unit, args.read_noise * u.electron


def _check_residual(residual, context, args):
    from astrodenoise.filecontext import FrameError
    from astrodenoise.files import check_output

    if context.kind != 'fits':
        msg = f'{context.path}: a picture holds no negative values, so no --residual of it'
        raise FrameError(msg)
    check_output(residual, context, overwrite=args.overwrite)


def _difference(ccd, clean):
    """Give what was taken away, input minus output, in the output's type."""
    import numpy as np
    from astropy.nddata import CCDData

    data = np.subtract(ccd.data, clean.data, dtype=clean.data.dtype)
    meta = clean.meta.copy()
    meta.add_history('astrodenoise: this is the residual, input minus output')
    return CCDData(data, unit=ccd.unit, meta=meta)
