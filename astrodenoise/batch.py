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

from astrodenoise.argtypes import check_model
from astrodenoise.atomic import check_target
from astrodenoise.console import show_warnings
from astrodenoise.frametasks import as_fits, denoise_image
from astrodenoise.manifest import check_manifest

__all__ = ['Done', 'Job', 'check_options', 'denoise_file', 'plan', 'shard']

PICTURES = 'png', 'tiff'
PICTURE_SUFFIXES = '.png', '.tif', '.tiff'
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


@dataclasses.dataclass(frozen=True)
class Done:
    """
    What there is to tell of a file.

    Attributes
    ----------
    note : str
        Which of its images were done, where that is not all of it; or why none was.
    megapixels : float or None
        Of the images that were denoised.
    images : tuple of dict
        Of each image its name, ``megapixels``, and ``planes``: sky, sigma, source of the noise and
        the pixels that are invalid, saturated and held back.
    """

    note: str = ''
    megapixels: float | None = None
    images: tuple = ()


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
    if args.noise_file and any((args.err, args.var, args.weight, args.gain, args.noise)):
        msg = 'the noise is given twice: give --noise-file, or the noise itself'
        raise argparse.ArgumentError(None, msg)
    if args.save_noise and len(args.inputs) > 1:
        msg = f'--save-noise {args.save_noise}: is of one input, and there are {len(args.inputs)}'
        raise argparse.ArgumentError(None, msg)
    if args.preview is not None and (args.residual or args.mask or args.resume):
        msg = '--preview gives a part of the image; --residual, --mask, --resume are of the whole'
        raise argparse.ArgumentError(None, msg)
    if args.blend == 'none' and args.overlap:
        msg = '--blend none lays tiles side by side: give --overlap 0 with it'
        raise argparse.ArgumentError(None, msg)
    check_model(args.model)
    try:
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
    if option == '--residual':  # of pictures, too, it is FITS
        targets = [target.with_suffix('.fits') if target.suffix.lower() in PICTURE_SUFFIXES
                   else target for target in targets]  # fmt: skip
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
        Wraps the tiles, as in `astrodenoise.denoise`; if it has ``expect``, that is called with the
        number of all pixels.

    Returns
    -------
    done : `Done`
        What there is to tell of it.

    Raises
    ------
    FrameError
        If the file cannot be read, or its kind cannot be written under these names.
    FileExistsError
        If one of the files to write exists and ``args.overwrite`` is not set.
    """
    from astrodenoise.files import open_frames
    from astrodenoise.pictures import at_depth

    with show_warnings(args, job.source):
        contexts, read = open_frames(
            job.source, ext=args.ext, unit=args.unit, planes=_plane_files(args)
        )
        contexts = [at_depth(context, args.depth) for context in contexts]
        if args.preview is not None:  # what else is in the file would be of the whole
            contexts = [as_fits(one) if one.kind == 'xisf' else one for one in contexts]
        _check_outputs(job, contexts[0], args)
    several = len(contexts) > 1
    if hasattr(progress_bar, 'expect'):
        progress_bar.expect(sum(_n_pixels(context, args) for context in contexts))
    results = (
        denoise_image(job, context, read, args, progress_bar=progress_bar, several=several)
        for context in contexts
    )
    # the files are opened when there is something to write: a stop leaves nothing behind
    results = itertools.chain([next(results)], results)
    with contextlib.ExitStack() as stack:
        writers = {
            path: stack.enter_context(
                _writer(path, of_path, args, alone=path != job.target or args.preview is not None)
            )
            for path, of_path in (
                (job.target, contexts),
                (job.residual, [_of_residual(context) for context in contexts]),
                (job.mask, contexts),
            )
            if path is not None
        }
        images = []
        for context, clean, removed, mask in results:
            with show_warnings(args, job.source):
                writers[job.target].write(clean, context)
            if args.uncertainty == 'predict':
                values = _standard_deviation(clean)
                writers[job.target].append('PRED_ERR', values, context, PREDICTED)
            if job.residual is not None:
                writers[job.residual].write(removed, _of_residual(context))
            if job.mask is not None:
                writers[job.mask].write(mask, _without_unit(context))
            images.append(_figures(clean, context))
    return Done(_note(contexts, args), sum(image['megapixels'] for image in images), tuple(images))


def _of_residual(context):
    """Context of an image's residual: no picture holds what is below 0."""
    return as_fits(context) if context.kind in PICTURES else context


def _n_pixels(context, args):
    """Pixels of an image that are denoised."""
    if args.preview is None:
        return math.prod(context.shape)
    *planes, height, width = context.shape
    return math.prod(planes) * min(args.preview[2], width) * min(args.preview[3], height)


def _figures(clean, context):
    """What was found in an image."""
    from astrodenoise.provenance import read_provenance

    planes = read_provenance(clean).get('planes', [])
    names = 'sky', 'sigma', 'noise', 'invalid', 'saturated', 'limited'
    figures = {'image': context.label, 'megapixels': math.prod(clean.data.shape) / 1e6}
    return figures | {'planes': [{name: plane.get(name) for name in names} for plane in planes]}


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


def _plane_files(args):
    """Give the planes of other files, None where there are none."""
    from astrodenoise.companions import PlaneFiles

    given = {'sigma': args.err, 'variance': args.var, 'weight': args.weight}
    uncertainty = next(((kind, name) for kind, name in given.items() if name), None)
    planes = PlaneFiles(uncertainty, args.dq, args.dq_bits)
    return None if planes == PlaneFiles() else planes


def _check_outputs(job, context, args):
    """Refuse, before the work, what cannot be written."""
    from astrodenoise.files import check_output

    _refuse(
        context, args.preview is not None and job.target.suffix.lower() == '.xisf',
        'a preview of XISF is written as FITS: give a name that ends in .fits',
    )  # fmt: skip
    check_output(job.target, context, overwrite=args.overwrite)
    if context.kind in PICTURES:
        _refuse(
            context, job.residual and job.residual.suffix.lower() in PICTURE_SUFFIXES,
            'a picture holds no negative values: give --residual a name that ends in .fits',
        )  # fmt: skip
        _refuse(
            context, job.mask,
            'a picture has no header for the record of a --mask; convert it to FITS',
        )  # fmt: skip
    if context.kind != 'fits':
        has_error = args.uncertainty == 'predict'
        _refuse(context, has_error, f'{context.kind.upper()} has no place for a predicted error')
    for path, one in ((job.residual, _of_residual(context)), (job.mask, context)):
        if path is not None:
            check_output(path, one, overwrite=args.overwrite)
    if args.save_noise:
        check_target(args.save_noise, overwrite=args.overwrite)


def _refuse(context, product, reason):
    from astrodenoise.filecontext import FrameError

    if product:
        msg = f'{context.path}: {reason}'
        raise FrameError(msg)


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
