# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise report``."""

import argparse
import time
from pathlib import Path

from astrodenoise.argtypes import check_model, check_parent
from astrodenoise.commands.command import DONE, Command
from astrodenoise.console import make_progress_bar, show_warnings

__all__ = ['COMMAND']

KINDS = {'.png': 'png', '.json': 'json'}  # of what -o names; anything else is a page


def _add_arguments(parser):
    add = parser.add_argument
    add('noisy', metavar='NOISY', help='the frame before: FITS, XISF, PNG or TIFF')
    add(
        'denoised',
        metavar='DENOISED',
        nargs='?',
        help='the denoised frame, of any denoiser (default: NOISY is denoised)',
    )
    add('--truth', metavar='FILE', help='the frame without noise, where there is one')
    add(
        '-o',
        '--output',
        metavar='FILE',
        help='the page, one file that needs no network; a name in .png or .json makes that instead',
    )
    add('--png', metavar='FILE', help='write the report as a picture, too')
    add('--json', metavar='FILE', help='write the report as JSON, too')
    add('--ext', metavar='EXT', help="FITS image of NOISY and DENOISED: number, name or 'NAME,VER'")
    add('--model', help='name of a model or a weights file that denoises NOISY')
    add('--overwrite', action='store_true', help='replace files that exist')
    add('-q', '--quiet', action='store_true', help='no progress, no summary')


def _run(args):
    outputs = _outputs(args)
    _check_options(args)
    from astrodenoise.atomic import check_target

    for path in outputs.values():
        check_target(path, overwrite=args.overwrite)
    start = time.perf_counter()
    with show_warnings(args, args.noisy):
        report = _measured(args)
        for kind, path in outputs.items():
            _write(kind, path, report, args.overwrite)
    if not args.quiet:
        for check in report.checks[:3]:
            words = check.words.removeprefix(f'{check.state.capitalize()}: ')
            print(f'{check.title:10} {check.number:12} {check.state}: {words}')
        seconds = time.perf_counter() - start
        print(f'{args.noisy} -> {", ".join(map(str, outputs.values()))}  {seconds:.1f} s')
    return DONE


def _outputs(args):
    """Give the files to write, by their kind."""
    outputs = {}
    for option, name, kind in (
        ('-o', args.output, None), ('--png', args.png, 'png'), ('--json', args.json, 'json')
    ):  # fmt: skip
        if name is None:
            continue
        path = Path(name)
        kind = kind or KINDS.get(path.suffix.lower(), 'page')
        if kind in outputs:
            msg = f'{option} {name}: the {kind.upper()} goes to {outputs[kind]} already'
            raise argparse.ArgumentError(None, msg)
        check_parent(option, path)
        others = filter(None, (args.noisy, args.denoised, args.truth, *outputs.values()))
        if path.resolve() in {Path(other).resolve() for other in others}:
            msg = f'{option} {name}: this file is one of the others; give another name'
            raise argparse.ArgumentError(None, msg)
        outputs[kind] = path
    if not outputs:
        msg = 'there is nothing to write: give -o report.html, or --png or --json'
        raise argparse.ArgumentError(None, msg)
    return outputs


def _check_options(args):
    """Refuse what is wrong whatever the files hold."""
    if args.denoised is not None and args.model is not None:
        msg = '--model denoises NOISY, but DENOISED is given: leave one of them out'
        raise argparse.ArgumentError(None, msg)
    check_model(args.model)


def _measured(args):
    """Read the files, denoise where that is asked, and measure."""
    import numpy as np

    from astrodenoise.files import read_frame
    from astrodenoise.report import make_report

    ext = int(args.ext) if args.ext is not None and args.ext.isdecimal() else args.ext
    noisy, context = read_frame(args.noisy, ext=ext)
    clean, error_map, truth = None, None, None
    given = {'noisy': args.noisy, 'denoised': args.denoised, 'truth': args.truth}
    given = {key: name for key, name in given.items() if name is not None}
    names = {key: Path(name).name for key, name in given.items()}
    if len(set(names.values())) < len(names):  # files of one name in several folders
        names = given
    if args.denoised is not None:
        clean, of_clean = read_frame(args.denoised, ext=ext if _is_fits(args.denoised) else None)
        error_map = _predicted_error(of_clean, clean.shape)
    if args.truth is not None:
        truth, _ = read_frame(args.truth)
    is_picture = context.kind != 'fits' and context.dtype.kind == 'u'
    return make_report(
        noisy, clean,
        truth=truth,
        error_map=error_map,
        model=args.model or 'default',
        channels=context.channels,
        names=names,
        full_range=(0, int(np.iinfo(context.dtype).max)) if is_picture else None,
        progress_bar=make_progress_bar(args, 'denoise'),
    )  # fmt: skip


def _is_fits(path):
    return Path(path).suffix.lower() not in ('.png', '.tif', '.tiff')


def _predicted_error(context, shape):
    """Error of each pixel, where an earlier run wrote it into the file."""
    if context.predicted_span is None:
        return None
    from astrodenoise.files import read_frame

    values = read_frame(context.path, ext=f'PRED_ERR,{context.version}')[0].data
    return values.astype('f4') if values.shape == shape else None


def _write(kind, path, report, overwrite):
    from astrodenoise.atomic import atomic_write

    if kind == 'page':
        from astrodenoise.reportpage import write_page

        write_page(path, report, overwrite=overwrite)
    elif kind == 'png':
        from astrodenoise.reportpicture import write_picture

        write_picture(path, report, overwrite=overwrite)
    else:
        with atomic_write(path, overwrite=overwrite) as handle:
            handle.write(f'{report.to_json()}\n'.encode())


COMMAND = Command(
    'report',
    'make a page that shows what denoising did to a frame',
    _add_arguments,
    _run,
)
