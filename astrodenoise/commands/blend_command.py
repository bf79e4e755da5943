# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise blend``."""

import argparse
import os

from astrodenoise.argtypes import unit
from astrodenoise.arguments import add_shares
from astrodenoise.commands.command import DONE, Command
from astrodenoise.console import show_warnings

__all__ = ['COMMAND']


def _add_arguments(parser):
    add = parser.add_argument
    add('frame', metavar='FRAME', help='the file that was denoised')
    add('residual', metavar='RESIDUAL',
        help='what `astrodenoise denoise FRAME --residual RESIDUAL` wrote')
    add('-o', '--output', required=True, metavar='OUT', help='file to write')
    add_shares(parser)
    add('--ext', action='append', metavar='EXT',
        help='the FITS images that were denoised, as for denoise (default: those of the names that '
             'the residual has)')
    add('--unit', type=unit, help='unit of the pixels (default: BUNIT, else adu)')
    add('--depth', choices=('16', '32f'),
        help='write a picture or XISF with 16 bits, or as floating point from 0 to 1 (default: as '
             'FRAME)')
    add('--overwrite', action='store_true', help='replace a file that exists')
    add('-q', '--quiet', action='store_true', help='do not name what was written')


def _run(args):
    from astrodenoise.blending import blend_files

    output = os.path.realpath(args.output)
    if output in map(os.path.realpath, (args.frame, args.residual)):
        msg = f'-o {args.output} is read: give another name'
        raise argparse.ArgumentError(None, msg)
    with show_warnings(args, args.frame):
        blend_files(
            args.frame,
            args.residual,
            args.output,
            strength=1.0 if args.strength is None else args.strength,
            strength_chroma=args.strength_chroma,
            strength_coarse=args.strength_coarse,
            keep_grain=args.keep_grain or 0.0,
            ext=args.ext,
            unit=args.unit,
            depth=args.depth,
            overwrite=args.overwrite,
        )
    if not args.quiet:
        print(f'{args.frame} -> {args.output}')
    return DONE


COMMAND = Command(
    'blend',
    'denoise at another strength, from a residual, without the network',
    _add_arguments,
    _run,
)
