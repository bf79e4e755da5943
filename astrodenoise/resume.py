# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Whether an output that exists is what a call of ``astrodenoise denoise`` would make."""

import math

from astrodenoise.filecontext import FrameError
from astrodenoise.files import open_frames, read_records
from astrodenoise.pictures import at_depth
from astrodenoise.preparation import model_of
from astrodenoise.settings import GIVEN
from astrodenoise.tiling import fitting_tile
from astrodenoise.weights import describe

__all__ = ['earlier_result', 'weights_asked']


def earlier_result(job, args):
    """
    Compare an output that exists with what would be made now.

    Parameters
    ----------
    job : `astrodenoise.batch.Job`
        The file, and what would be written.
    args : `argparse.Namespace`
        The options of ``astrodenoise denoise``, filled in.

    Returns
    -------
    note : str or None
        Why the file needs no work; None if it does.

    Raises
    ------
    FileExistsError
        If the output is another than the one asked for, and ``args.overwrite`` is not set.
    FrameError
        If the input cannot be read.
    """
    if not job.target.exists():
        return None
    contexts, _ = open_frames(job.source, ext=args.ext)
    if not _records_are_written():
        return f'{job.target} exists (records are switched off, its settings are not known)'
    difference = _missing(job) or _difference(job, contexts, args)
    if not difference:
        return f'{job.target} exists with the same settings'
    if args.overwrite:
        return None
    msg = f'{job.target} {difference}; give --overwrite to redo it, or another folder'
    raise FileExistsError(msg)


def weights_asked(args, context):
    """
    Name the model that an image is denoised with, and its weights.

    Parameters
    ----------
    args : `argparse.Namespace`
        With ``model`` and ``channels``.
    context : `astrodenoise.filecontext.FrameContext`
        Of the image.

    Returns
    -------
    model : str
        Its name, or the file's.
    weights : str
        12 hex digits of the SHA-256.
    """
    model = model_of(args.model, joint=_channels(args, context) == 'joint')
    return model, describe(model)['sha256'][:12]


def _channels(args, context):
    return args.channels or context.channels or 'separate'


def _records_are_written():
    from astrodenoise import conf

    return conf.auto_logging


def _missing(job):
    """Name what was asked for beside the output and is not there."""
    missing = [str(path) for path in (job.residual, job.mask) if path and not path.exists()]
    return f'exists without {" and ".join(missing)}' if missing else ''


def _difference(job, contexts, args):
    """Say what of an output is not as asked; nothing where it is."""
    try:
        targets, _ = open_frames(job.target)  # whole, not truncated
        found, names = _records(job.target)
    except (FrameError, OSError):
        return f'exists and is no {contexts[0].kind.upper()} file that can be used'
    if not found:
        return 'exists and has no record of astrodenoise'
    if len(found) > len(contexts):
        before, _ = _records(job.source)  # images that other runs had denoised
        found = [entry for entry in found if entry not in before]
    if len(found) != len(contexts):
        return f'exists with {len(found)} images denoised, asked {len(contexts)}'
    texts = [
        text
        for (_, record), context in zip(found, contexts, strict=True)
        for text in _other_settings(record, args, context)
    ]
    if args.uncertainty == 'predict' and 'PRED_ERR' not in names:
        texts.append('without PRED_ERR, asked with it')
    if contexts[0].kind != 'fits':
        there, asked = targets[0].dtype, at_depth(contexts[0], args.depth).dtype
        texts += [f'pixels {there}, asked {asked}'] if there != asked else []
    return f'exists with other settings ({"; ".join(dict.fromkeys(texts))})' if texts else ''


def _records(path):
    """Read the last record of each image that has one, with its name, and all names."""
    found = read_records(path)
    return [entry for entry in found if entry[1]], {key[0] for key, _ in found}


def _tiles(args, shape):
    """Size and overlap of the tiles that would be taken."""
    if args.tile_size != 'auto':
        return args.tile_size, args.overlap
    if args.bayer:
        shape = tuple(-(-n // 2) for n in shape)
    return fitting_tile(shape, args.overlap)


def _other_settings(record, args, context):
    """Name the settings of a record that are not those asked for."""
    model, weights = weights_asked(args, context)
    if record.get('weights') != weights:
        there = f'{record.get("model")} {record.get("weights")}'
        yield f'weights {there}, asked {model} {weights}'
    tile_size, overlap = _tiles(args, context.shape[-2:])
    asked = {
        'strength': args.strength,
        **_shares(args),
        'limit': args.limit,
        'overlap': overlap,
        'tile': tile_size,
        'blend': args.blend,
        'channels': _channels(args, context),
        'bayer': args.bayer or None,
        'star_mask': 'given' if isinstance(args.star_mask, str) else args.star_mask,
    }
    if args.bayer is True and record.get('bayer'):
        del asked['bayer']  # the pattern is the header's
    usual = {'keep_grain': 0.0}  # is not written
    for name, value in asked.items():
        if record.get(name, usual.get(name)) != value:
            yield f'{name} {record.get(name)}, asked {value}'
    yield from _other_noise(record.get('planes', []), args)


def _shares(args):
    """Shares of parts of the noise as a record has them: those that are the strength it has not."""
    shares = {name: getattr(args, name) for name in ('strength_chroma', 'strength_coarse')}
    shares = {name: None if share == args.strength else share for name, share in shares.items()}
    return shares | {'keep_grain': args.keep_grain}


def _other_noise(planes, args):
    """Name a source or value of the noise that is not the one asked for."""
    there = ', '.join(sorted({str(plane.get('noise')) for plane in planes}))
    sources = {None: {'measured', 'uncertainty'}, 'measure': {'measured'}}.get(args.noise)
    if args.gain is not None:
        sources = {'gain, read noise'}
    elif args.err or args.var or args.weight:
        sources = {'uncertainty'}
    elif sources is None:
        sources = {'given'}
        sigmas = [plane.get('sigma') for plane in planes]
        if there == 'given' and not all(math.isclose(s, args.noise, rel_tol=1e-6) for s in sigmas):
            yield f'noise {sigmas[0]:g}, asked {args.noise:g}'
    if there not in sources:
        asked = 'not given' if sources.isdisjoint(GIVEN) and args.noise is None else None
        yield f'noise {there}, asked {asked or ", ".join(sorted(sources))}'
