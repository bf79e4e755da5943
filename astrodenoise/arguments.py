# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
The arguments of ``astrodenoise denoise``.

What a type needs is imported where it is used, so that ``--help`` answers at once.
"""

import argparse
import math
import re

from astrodenoise.argtypes import bayer_pattern, count, noise_level, number, positive, unit

__all__ = ['add_denoise', 'add_shares', 'denoise_options']

# those that are given otherwise, or are about the terminal
_NOT_BY_NAME = {'inputs', 'json', 'output', 'quiet', 'scheduler', 'shard', 'workers'}


def _tile_size(text):
    if text == 'auto':
        return text
    value = int(text)
    if not 64 <= value <= 2048 or value % 8:
        msg = f'must be a multiple of 8 from 64 to 2048, got {text}'
        raise argparse.ArgumentTypeError(msg)
    return value


def _bits(text):
    from astrodenoise.fitslayouts import read_bits

    try:
        return read_bits(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _part(text):
    match = re.fullmatch(r'(\d+),(\d+),(\d+)(?:x(\d+))?', text)
    if match is None or 0 in map(int, filter(None, match.groups()[2:])):
        msg = f'must be X,Y,SIZE or X,Y,WIDTHxHEIGHT in pixels, such as 1200,800,512, got {text}'
        raise argparse.ArgumentTypeError(msg)
    x, y, width, height = match.groups()
    return int(x), int(y), int(width), int(height or width)


def _shard(text):
    match = re.fullmatch(r'(\d+)/(\d+)', text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        msg = f'must be I/N with I from 1 to N, such as 3/16, got {text}'
        raise argparse.ArgumentTypeError(msg)
    return int(match[1]), int(match[2])


def add_denoise(parser):
    """
    Add the arguments of ``astrodenoise denoise`` to a parser.

    Parameters
    ----------
    parser : `argparse.ArgumentParser`
        The parser.
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        'The output has the pixels and the record of the denoising changed and nothing else.\n'
        'Its name says how it is stored: .fits plain, .fits.fz tile-compressed (lossless),\n'
        '.fits.gz gzipped. PNG, TIFF and XISF give the same kind in the same depth, or --depth.'
    )
    add = parser.add_argument
    add('inputs', nargs='+', metavar='IN', help='FITS, XISF, TIFF or PNG file')
    add('-o', '--output', required=True, metavar='OUT|DIR',
        help='file to write; for several inputs, or where it is a folder or ends in a slash, '
             'the folder to write them to under their own names')
    add('--ext', action='append', metavar='EXT',
        help='image of FITS or XISF: number from 0 on, name, or name,version; may be given several '
             'times; "all": all images (default: the first image)')
    add('--unit', type=unit, help='unit of the pixels (default: BUNIT, else adu)')
    add('--preview', type=_part, metavar='X,Y,SIZE',
        help='denoise this part alone, as in the whole: around column X and row Y, counted from 0; '
             'SIZE is in pixels, or WIDTHxHEIGHT')
    add('--residual', metavar='FILE|DIR',
        help='also write all of the noise that was found, input minus output at strength 1, as -o '
             'does; astrodenoise blend takes it')
    add('--mask', metavar='FILE|DIR', help='also write the mask of the stars, as -o does')
    _add_settings(parser)
    _add_noise(parser)
    _add_computing(parser)

    group = parser.add_argument_group('files')
    add = group.add_argument
    add('--depth', choices=('16', '32f'),
        help='write a picture or XISF with 16 bits, or as floating point from 0 to 1 (default: as '
             'the input)')
    add('--overwrite', action='store_true', help='replace files that exist')
    add('--resume', action='store_true',
        help='skip inputs whose output exists with the same settings; with --overwrite, redo those '
             'with others')
    add('--manifest', metavar='FILE.jsonl',
        help='append a line of JSON on each input when it is done')
    add('--shard', type=_shard, metavar='I/N',
        help='take the I-th, (I+N)-th, ... input only (1/N to N/N: one for each task of a job '
             'array)')
    add('-q', '--quiet', action='store_true', help='no progress and no list of what was done')
    add('--json', action='store_true',
        help='tell what is done as lines of JSON on stdout, for programs; text goes to stderr')


def add_shares(group):
    """
    Add the shares of parts of the noise, the same for a run and for a blend.

    Parameters
    ----------
    group : `argparse.ArgumentParser` or a group of one
        Where they go.
    """
    share = number(0, 1, 'must lie in 0 to 1')
    group.add_argument('--strength', type=share, metavar='S',
        help='part of the noise to remove, 0 to 1 (default: 1)')
    group.add_argument('--strength-chroma', type=share, metavar='S',
        help='the same for its colour, where channels are joint (default: as --strength)')
    group.add_argument('--strength-coarse', type=share, metavar='S',
        help='the same for what varies over more than 8 px: blotches (default: as --strength)')
    group.add_argument('--keep-grain', type=share, metavar='G',
        help='part of the fine noise that stays as a grain without colour, 0 to 1 (default: 0)')


def denoise_options(inputs, output, **options):
    """
    Give the options of ``astrodenoise denoise`` by their names.

    Parameters
    ----------
    inputs : list of str
        The files to read.
    output : str
        The file or the folder to write.
    **options : dict
        Those that are not as usual, dashes as underscores: ``tile_size=512``; not those of
        progress, processes and shards.

    Returns
    -------
    args : `argparse.Namespace`
        All of them, as the parser gives them; values are not checked.

    Raises
    ------
    TypeError
        If there is no such option.
    """
    parser = argparse.ArgumentParser()
    add_denoise(parser)
    args = parser.parse_args(['IN', '-o', 'OUT'])
    unknown = sorted(set(options) - (set(vars(args)) - _NOT_BY_NAME))
    if unknown:
        msg = f'astrodenoise denoise has no option {", ".join(unknown)}; see its --help'
        raise TypeError(msg)
    given = options | {'inputs': inputs, 'output': output}
    return argparse.Namespace(**(vars(args) | {'verbose': 0} | given))


def _add_settings(parser):
    group = parser.add_argument_group('denoising')
    add = group.add_argument
    add('--like', metavar='FILE',
        help='the settings that are recorded in this denoised file; options '
             'beside it go before it')
    add('--model', help='name of a model or a weights file')
    add_shares(group)
    add('--limit', type=number(0.1, math.inf, 'must be at least 0.1'), metavar='L',
        help='most that any area may change, in sigma of its mean (default: 6)')
    add('--channels', choices=('joint', 'separate'),
        help='three planes are colours of one camera, or each plane is denoised for itself '
             '(default: what the file says)')
    add('--bayer', type=bayer_pattern, metavar='PATTERN|header|none',
        help='the frame is a raw colour mosaic of the pattern RGGB, BGGR, GRBG or GBRG, or of that '
             'in its header; none: it is debayered, whatever its header says')
    add('--saturation', type=positive, metavar='VALUE',
        help='pixels from this value on are kept as they are')
    add('--star-mask', nargs='?', const=True, metavar='FILE',
        help='take less from stars: those that are found, or by a mask such as --mask writes '
             '(without FILE, as the last argument)')


def _add_noise(parser):
    group = parser.add_argument_group(
        'noise',
        'The default is the uncertainty of the file, else measured. Planes of other files are '
        'given as FILE, FILE[EXT] or a folder with files of the same names.',
    )
    group.add_argument('--noise', type=noise_level, metavar='VALUE|measure',
        help='sigma in the unit of the pixels, or measure it whatever the file says')
    group.add_argument('--gain', type=positive, metavar='G',
        help='electrons per unit of the pixels, of a single exposure with its sky')
    group.add_argument('--read-noise', type=number(0, math.inf, 'must not be negative'),
        metavar='R', help='in electrons, with --gain')
    group.add_argument('--noise-file', metavar='FILE.json',
        help='the noise that --save-noise wrote; the frame of which it did is not measured again')
    group.add_argument('--save-noise', metavar='FILE.json',
        help='write what was measured, for --noise-file (of one input)')
    one = group.add_mutually_exclusive_group().add_argument
    one('--err', metavar='FILE', help='plane of sigma, in the unit of the pixels')
    one('--var', metavar='FILE', help='plane of variance')
    one('--weight', metavar='FILE',
        help='plane of weight: inverse variance up to a factor, which the frame tells')
    group.add_argument('--dq', metavar='FILE', help='plane of data quality, or mask')
    group.add_argument('--dq-bits', type=_bits, metavar='BITS',
        help='which bits of it are bad: 256+2048, 0x900, SAT+NO_DATA, all (default: those without '
             'data or saturated where the layout is known, else all)')
    group.add_argument('--uncertainty', choices=('keep', 'predict', 'none'), default='keep',
        help='keep the uncertainty extension of the image in the output, keep it and add the '
             'expected error of each single pixel as PRED_ERR, or leave it out')


def _add_computing(parser):
    group = parser.add_argument_group('computing')
    add = group.add_argument
    add('--overlap', type=number(0, 0.75, 'must lie in 0 to 0.75'), metavar='F',
        help='part of a tile that the next one covers too (default: 0.25)')
    add('--tile-size', type=_tile_size, metavar='N',
        help='in pixels, or auto: what fits the frame best (default: auto)')
    add('--blend', choices=('gaussian', 'none'),
        help='feather the tiles, or lay them side by side (with --overlap 0)')
    add('--device', default='auto', help='cpu, cuda, mps ... (default: the best there is)')
    add('--precision', choices=('auto', 'float32', 'bfloat16', 'float16'),
        help='of the network (default: bfloat16 or float16 where the device is made for it)')
    add = group.add_mutually_exclusive_group().add_argument
    add('--workers', type=count, metavar='N',
        help='denoise N files at a time, each in a process of its own (needs the extra dask)')
    add('--scheduler', metavar='ADDRESS',
        help='denoise on the cluster whose scheduler is there, such as tcp://host:8786')
