# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The files of one ``astrodenoise denoise``: what is written where, and each of them done.

Wrong usage is an `argparse.ArgumentError` here, as it is in the parser.
"""

import argparse
import contextlib
import dataclasses
import itertools
import math
import os
from pathlib import Path

from astrodenoise.console import show_warnings
from astrodenoise.manifest import check_manifest

__all__ = ['Job', 'check_options', 'denoise_file', 'plan', 'shard']

LARGE = 2**24  # pixels, beyond which a frame is read and written piece by piece
PREDICTED = 'expected error of each single pixel; not to be added in quadrature'


@dataclasses.dataclass(frozen=True)
class Job:
    """
    What is made of one file.

    Attributes
    ----------
    source : str
        The file to read.
    target : `~pathlib.Path`
        The denoised file.
    residual, mask : `~pathlib.Path` or None
        The files for input minus output and for the mask of the stars.
    """

    source: str
    target: Path
    residual: Path | None = None
    mask: Path | None = None


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
    if (args.gain is None) != (args.read_noise is None):
        msg = '--gain and --read-noise describe the noise together: give both'
        raise argparse.ArgumentError(None, msg)
    if args.gain is not None and args.noise is not None:
        msg = 'the noise is given twice: give --noise, or --gain and --read-noise'
        raise argparse.ArgumentError(None, msg)
    if (args.err or args.var or args.weight) and (args.gain, args.noise) != (None, None):
        msg = 'the noise is given twice: give a plane of it, or --noise, or --gain and --read-noise'
        raise argparse.ArgumentError(None, msg)
    if args.blend == 'none' and args.overlap:
        msg = '--blend none lays tiles side by side: give --overlap 0 with it'
        raise argparse.ArgumentError(None, msg)
    try:
        if args.model != 'default':
            from astrodenoise.weights import describe

            describe(args.model)
        if args.device != 'auto' and args.scheduler is None:  # else it is the workers'
            from astrodenoise.devices import choose_device

            choose_device(args.device)
    except ValueError as error:
        raise argparse.ArgumentError(None, ' '.join(str(error).split())) from error


def plan(inputs, output, *, residual=None, mask=None, manifest=None):
    """
    Give the files to write for every input, and make the folders of several.

    Parameters
    ----------
    inputs : list of str
        The files to read.
    output : str
        The file to write, or the folder where it is one, ends in a slash or the
        inputs are several.
    residual, mask : str, optional
        The same for input minus output and for the mask of the stars. The default writes none.
    manifest : str, optional
        A file that is none of them.

    Returns
    -------
    jobs : list of `Job`
        One per input.

    Raises
    ------
    argparse.ArgumentError
        If a folder is missing, or two files would be written under one name, or
        one over an input.
    """
    none = [None] * len(inputs)
    columns = [_targets(inputs, output, '-o')]
    columns += [
        none if name is None else _targets(inputs, name, option)
        for name, option in ((residual, '--residual'), (mask, '--mask'))
    ]
    _check_collisions(inputs, filter(None, itertools.chain(*columns, [manifest])))
    if manifest is not None:
        check_manifest(manifest)
    return [Job(*row) for row in zip(inputs, *columns, strict=True)]


def shard(jobs, index, count):
    """
    Take every `count`-th of the files.

    Parameters
    ----------
    jobs : list
        All files, in the order in which they were given.
    index, count : int
        Which share, 1 to ``count``, and how many there are.

    Returns
    -------
    jobs : list
        The share. Those of all indices have each file once.
    """
    return jobs[index - 1 :: count]


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


def denoise_file(job, args, *, progress_bar=None):
    """
    Read, denoise and write one file.

    Parameters
    ----------
    job : `Job`
        The file, and what is written.
    args : `argparse.Namespace`
        The options of ``astrodenoise denoise``.
    progress_bar : callable, optional
        Wraps the tiles, as in `astrodenoise.denoise`.

    Returns
    -------
    note : str
        Which of its images were done, where that is not all of it.

    Raises
    ------
    FrameError
        If the file cannot be read, or its kind cannot be written under these names.
    FileExistsError
        If one of the files to write exists and ``args.overwrite`` is not set.
    """
    from astrodenoise import residual
    from astrodenoise.files import open_frames

    with show_warnings(args, job.source):
        contexts, read = open_frames(
            job.source, ext=args.ext, unit=args.unit, planes=_plane_files(args)
        )
        _check_outputs(job, contexts[0], args)
    results = (
        _result(job, context, read, args, progress_bar, several=len(contexts) > 1)
        for context in contexts
    )
    # the files are opened when there is something to write: a stop leaves nothing behind
    results = itertools.chain([next(results)], results)
    with contextlib.ExitStack() as stack:
        writers = {
            path: stack.enter_context(_writer(path, contexts, args, alone=path != job.target))
            for path in (job.target, job.residual, job.mask)
            if path is not None
        }
        for context, ccd, clean, mask in results:
            writers[job.target].write(clean, context)
            if args.uncertainty == 'predict':
                values = _standard_deviation(clean)
                writers[job.target].append('PRED_ERR', values, context, PREDICTED)
            if job.residual is not None:
                writers[job.residual].write(residual(ccd, clean), context)
            if job.mask is not None:
                writers[job.mask].write(mask, _without_unit(context))
    return _note(contexts, args)


def _writer(path, contexts, args, *, alone):
    """Open a file for its frames; of a denoised one, what is no longer true is left out."""
    from astrodenoise.files import frame_writer

    dropped = []
    if args.uncertainty == 'none':
        dropped = [context.uncertainty_span for context in contexts]
    elif args.uncertainty == 'predict':
        dropped = [context.predicted_span for context in contexts]
    return frame_writer(path, contexts, overwrite=args.overwrite, dropped=dropped, alone=alone)


def _note(contexts, args):
    """Say which images of a file were taken, where there are more."""
    n_images = contexts[0].n_images
    if args.ext is not None or n_images == 1:
        return ''
    return f' ({contexts[0].label}, the first of {n_images} images; --ext all takes all)'


def _result(job, context, read, args, progress_bar, *, several):
    """Denoise one image of a file: context, frame, clean frame, mask of the stars."""
    name = f'{job.source}[{context.label}]' if several else job.source
    with show_warnings(args, name):
        try:
            if _goes_in_pieces(job, context, args):
                ccd = read(context, in_pieces=True)
                if ccd is not None and _can_be_told(ccd, args):
                    clean = _denoised_in_pieces(job, ccd, context, args, progress_bar)
                    return context, ccd, clean, None
            ccd = read(context)
            if context.weight and args.noise is None and args.gain is None:
                from astrodenoise.weightmap import fit_level

                fit_level(ccd, saturation=args.saturation)
            mask = None if job.mask is None else _found_stars(ccd, context, args)
            clean = _denoised(ccd, context, args, progress_bar)
        except (TypeError, ValueError) as error:
            if not several or str(error).startswith(job.source):
                raise
            msg = f'{name}: {error}'
            raise ValueError(msg) from error
    return context, ccd, clean, mask


def _goes_in_pieces(job, context, args):
    """Whether a frame is too large to be held in memory without need."""
    return (
        context.kind == 'fits'
        and math.prod(context.shape) > LARGE
        and job.residual is None
        and job.mask is None
        and not args.bayer
        and not isinstance(args.star_mask, str)
        and job.target.suffix.lower() != '.fz'
    )


def _can_be_told(ccd, args):
    """Whether the error that is predicted can be given as the frame's own kind."""
    from astropy.nddata import StdDevUncertainty

    return args.uncertainty != 'predict' or isinstance(
        ccd.uncertainty, StdDevUncertainty | type(None)
    )


def _plane_files(args):
    """Give the planes of other files, None where there are none."""
    from astrodenoise.companions import PlaneFiles

    given = {'sigma': args.err, 'variance': args.var, 'weight': args.weight}
    uncertainty = next(((kind, name) for kind, name in given.items() if name), None)
    planes = PlaneFiles(uncertainty, args.dq, args.dq_bits)
    return None if planes == PlaneFiles() else planes


def _check_outputs(job, context, args):
    """Refuse, before the work, what cannot be written."""
    from astrodenoise.filecontext import FrameError
    from astrodenoise.files import check_output

    wanted = (
        (job.residual, 'a picture holds no negative values, so no --residual of it'),
        (job.mask, 'a picture has no header for the record of a --mask; convert it to FITS'),
        (args.uncertainty == 'predict', 'a picture has no place for a predicted error'),
    )
    check_output(job.target, context, overwrite=args.overwrite)
    for product, reason in wanted:
        if product and context.kind != 'fits':
            msg = f'{context.path}: {reason}'
            raise FrameError(msg)
    for path in filter(None, (job.residual, job.mask)):
        check_output(path, context, overwrite=args.overwrite)


def _denoised(ccd, context, args, progress_bar):
    from astrodenoise import denoise

    options = _options(context, args, progress_bar)
    return denoise(
        ccd,
        options.pop('overlap'),
        **options,
        noise=_given_noise(ccd, args),
        star_mask=_given_star_mask(context, args),
        bayer=args.bayer,
        saturation=args.saturation,
    )


def _denoised_in_pieces(job, ccd, context, args, progress_bar):
    """Denoise a frame of which only pieces are in memory."""
    from astrodenoise.core import denoise_frame
    from astrodenoise.diskframes import DiskFrame
    from astrodenoise.mosaic import as_mosaic
    from astrodenoise.options import Options

    options = _options(context, args, progress_bar)
    if options['uncertainty'] == 'keep':  # as it is, in the file
        options['uncertainty'] = None
    settings = Options(**options, batch_size=None)
    settings.check()
    return denoise_frame(
        as_mosaic(DiskFrame(ccd, job.target.parent), args.bayer),
        settings,
        noise=_given_noise(ccd, args),
        star_mask=args.star_mask,
        saturation=args.saturation,
    )


def _options(context, args, progress_bar):
    """Give what does not depend on the frame, as `denoise` takes it."""
    return {
        'overlap': args.overlap,
        'model': args.model,
        'strength': args.strength,
        'limit': args.limit,
        'channels': args.channels or context.channels,
        'uncertainty': None if args.uncertainty == 'none' else args.uncertainty,
        'tile_size': args.tile_size,
        'blend': args.blend,
        'device': args.device,
        'precision': args.precision,
        'progress_bar': progress_bar,
    }


def _given_noise(ccd, args):
    if args.gain is None:
        return args.noise
    from astropy import units as u

    return args.gain * u.electron / ccd.unit, args.read_noise * u.electron


def _given_star_mask(context, args):
    """Read the mask that protects stars; True where they are to be found."""
    if not isinstance(args.star_mask, str):
        return args.star_mask
    from astrodenoise.companions import read_plane
    from astrodenoise.files import read_mask_picture

    option = '--star-mask'
    if args.star_mask.lower().endswith(('.png', '.tif', '.tiff')):
        return read_mask_picture(args.star_mask, context.shape, option=option)
    plane, _ = read_plane(
        args.star_mask, context.path, key=context.key, shape=context.shape, option=option
    )
    return plane


def _found_stars(ccd, context, args):
    """Make a frame of the mask of the stars: 0 to 1, as `denoise` takes it."""
    from astropy.nddata import CCDData

    from astrodenoise import star_mask

    noise = _given_noise(ccd, args)
    mask = _given_star_mask(context, args)
    if mask is None or mask is True:
        mask = star_mask(ccd, noise=noise, saturation=args.saturation)
    meta = ccd.meta.copy()
    meta.add_history('astrodenoise: this is the mask of its stars, 0 to 1')
    return CCDData(mask, unit='', meta=meta)


def _without_unit(context):
    """Give the context of a plane that has no unit."""
    cards = tuple(card for card in context.cards if card[:8].rstrip() != 'BUNIT')
    return dataclasses.replace(context, cards=cards)


def _standard_deviation(ccd):
    """Give the uncertainty as sigma, whatever its class."""
    import numpy as np
    from astropy.nddata import StdDevUncertainty

    if isinstance(ccd.uncertainty, StdDevUncertainty):
        return ccd.uncertainty.array
    with np.errstate(divide='ignore'):  # no weight, infinite sigma
        return ccd.uncertainty.represent_as(StdDevUncertainty).array
