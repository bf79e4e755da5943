# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise check``."""

import argparse
import io
from pathlib import Path

from astrodenoise.argtypes import (
    bayer_pattern,
    check_model,
    check_parent,
    count,
    noise_level,
    number,
    positive,
)
from astrodenoise.commands.command import DONE, SOME_FAILED, Command
from astrodenoise.console import make_progress_bar, show_warnings, tell_failed

__all__ = ['COMMAND']

PLOTS = ('.png', '.pdf', '.svg')


def _seed(text):
    value = int(text)
    if value < 0:
        msg = f'must not be negative, got {text}'
        raise argparse.ArgumentTypeError(msg)
    return value


_seed.__name__ = 'number'  # argparse names it where the text is no number


def _add_arguments(parser):
    parser.epilog = (
        'Known stars and galaxies are put into the frame, it is denoised with and without them, '
        'and what comes out is measured; a twin of the frame that has its noise alone tells how '
        'many sources denoising invents. The frame is not changed.'
    )
    add = parser.add_argument
    add('frame', metavar='FRAME', help='FITS, XISF, PNG or TIFF file, not denoised')
    add('--ext', metavar='EXT',
        help='FITS image: number, name, or name,version (default: the first image)')
    add('--model', default='default', help='name of a model or a weights file')
    add('--strength', type=number(0, 1, 'must lie in 0 to 1'), default=1.0, metavar='S',
        help='part of the noise to remove, 0 to 1 (default: 1)')
    add('--channels', choices=('joint', 'separate'),
        help='three planes are colours of one camera, or each plane is denoised for itself '
             '(default: what the file says)')
    add('--bayer', type=bayer_pattern, metavar='PATTERN|header|none',
        help='the frame is a raw colour mosaic: its four planes are checked')
    add('--noise', type=noise_level, metavar='VALUE|measure',
        help='sigma in the unit of the pixels, or measure it whatever the file says')
    add('--saturation', type=positive, metavar='VALUE',
        help='pixels from this value on are kept as they are')
    add('--sources', type=count, default=1000, metavar='N',
        help='sources to put in, at most (default: 1000)')
    add('--seed', type=_seed, default=0, metavar='N',
        help='of places, fluxes and noise (default: 0)')
    add('--json', nargs='?', const='-', metavar='FILE',
        help='write all figures to a file, or print them as JSON (without FILE, as the last '
             'argument)')
    add('--plot', metavar='FILE.png', help='draw them; PNG, PDF or SVG')
    add('--overwrite', action='store_true', help='replace files that exist')
    add('-q', '--quiet', action='store_true', help='no progress')


def _run(args):
    _check_outputs(args)
    check_model(args.model)
    with show_warnings(args, args.frame):
        try:
            check = _check(args)
            _write(args, check)
        except Exception as error:
            tell_failed(args, args.frame, error)
            return SOME_FAILED
    print(check.to_json() if args.json == '-' else check)
    return DONE


def _check_outputs(args):
    """Refuse names that could not be written to, before any work is done."""
    from astrodenoise.atomic import check_target

    for option, name in (('--json', args.json), ('--plot', args.plot)):
        if name in (None, '-'):
            continue
        check_parent(option, Path(name))
        check_target(name, overwrite=args.overwrite)
    if args.plot is not None and Path(args.plot).suffix.lower() not in PLOTS:
        msg = f'--plot {args.plot}: give a name that ends in {", ".join(PLOTS)}'
        raise argparse.ArgumentError(None, msg)


def _check(args):
    """Read the frame and check it."""
    from astrodenoise import check_frame
    from astrodenoise.files import read_frame

    ccd, context = read_frame(args.frame, ext=args.ext)
    return check_frame(
        ccd, model=args.model, strength=args.strength, channels=args.channels or context.channels,
        bayer=args.bayer, noise=args.noise, saturation=args.saturation,
        n_sources=args.sources, seed=args.seed,
        progress_bar=make_progress_bar(args, Path(args.frame).name, unit='pass'),
    )  # fmt: skip


def _write(args, check):
    """Write the files that were asked for."""
    from astrodenoise.atomic import atomic_write

    if args.json not in (None, '-'):
        with atomic_write(args.json, overwrite=args.overwrite) as handle:
            handle.write(f'{check.to_json()}\n'.encode())
    if args.plot is not None:
        drawn = io.BytesIO()
        check.plot().savefig(drawn, format=Path(args.plot).suffix[1:].lower())
        with atomic_write(args.plot, overwrite=args.overwrite) as handle:
            handle.write(drawn.getvalue())


COMMAND = Command(
    'check',
    'find out on a frame which of its sources can be trusted once it is denoised',
    _add_arguments,
    _run,
)
