# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Seams of naive and of overlapping tiles: the paper's Figure 3, and a statistic that goes with it.

``python benchmarks/seams.py --figure FILE`` denoises one frame with tiles side by side and with
overlapping tiles, and shows both with one stretch; it prints the seam statistic pooled over many
frames.  `docs/user_guide/tiling.rst` defines it.
"""

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
import scenes
from astropy.io import fits
from astropy.stats import mad_std
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from astrodenoise import denoise
from astrodenoise.tiling import MAX_TILE, tile_starts

TILE = 256  # px, the paper's tile
MODES = {  # keywords of `denoise`
    'naive': {'overlap': 0.0, 'blend': 'none', 'tile_size': TILE},
    'overlapping': {'overlap': 0.25, 'blend': 'gaussian', 'tile_size': TILE},
}
SIZE = 1024  # px, side of the simulated frames
FRAMES, QUICK_FRAMES = 16, 4  # of the pool, half of them blank sky, half nebula
N_SHIFTS = 20  # sets of shifted lines
BOUND = 0.02  # what the statistic of overlapping tiles may differ from 1 by
REACH = 8  # px round a true line that are not 'elsewhere', and where no shifted line may lie
ROUGH = 0.1  # sigma, of the Laplacian of the scene below which it is smooth
SKY, READ_NOISE = 90.0, 4.0  # electrons, of the blank frames

CROP = 330  # px, side of the panels
STRETCH = 1.0  # sigma round the median, black to white, of all frames that are shown
SHOWN = 0.75  # share of the panel that is neither black nor white, or the stretch is widened
DIFFERENCE = 0.1  # sigma, black to white, of the differences to the reference
NEAR = 12  # px round the lines that the profile shows
COLOURS = {'naive': '#c44e52', 'overlapping': '#1f6fb4'}
GREYS = 56  # of the written picture


# ------------------------------------------------------------------------------------ statistic

def tile_lines(n, overlap, *, tile_size=TILE):
    """
    Find the edges of all tiles along one axis.

    Parameters
    ----------
    n : int
        Length of the axis in px.
    overlap : float
        Share of a tile that the next one covers again.
    tile_size : int, optional
        Side of a tile in px.

    Returns
    -------
    lines : `numpy.ndarray` of int
        First and past-the-last px of each tile, those inside the frame: line i lies between px
        i - 1 and px i.
    """
    starts, pad, _ = tile_starts(n, tile_size, overlap)
    edges = np.unique(np.concatenate([starts, starts + tile_size]) - pad)
    return edges[(edges > 0) & (edges < n)]


def second_differences(image, axis, smooth=None):
    """
    Average the absolute second difference along one axis in each row (or column).

    Parameters
    ----------
    image : `numpy.ndarray`
        (H, W) frame.
    axis : int
        Along which the differences are taken.
    smooth : `numpy.ndarray`, optional
        (H, W) bool, the pixels that count as the middle of a difference.

    Returns
    -------
    total, count : `numpy.ndarray`
        Sum and number of the differences whose middle lies at each place along the axis; none at
        the first and the last.
    """
    second = np.abs(np.diff(np.moveaxis(image, axis, 0), 2, axis=0))
    part = np.ones(image.shape, bool) if smooth is None else smooth
    part = np.moveaxis(part, axis, 0)[1:-1]
    total, count = (second * part).sum(1, dtype=float), part.sum(1)
    return np.pad(total, 1), np.pad(count, 1)


def seam_statistic(image, lines, *, shifts=(0,), smooth=None):
    """
    Compare second differences across lines with those elsewhere.

    The two second differences that straddle a line are those whose middle is the px before or
    behind it.  Elsewhere is every px more than `REACH` px from all lines, whatever the shift.

    Parameters
    ----------
    image : `numpy.ndarray`
        (H, W) frame.
    lines : tuple of `numpy.ndarray`
        Lines along the first and the second axis, as `tile_lines` gives them.
    shifts : sequence of int, optional
        By how many px the lines are shifted, in turn: 0 gives the statistic, others its scatter.
        A line that leaves the frame comes in on its other side, and one within `REACH` px of a
        true line or of a border is left out.
    smooth : `numpy.ndarray`, optional
        (H, W) bool, the pixels that count.

    Returns
    -------
    statistic : `numpy.ndarray`
        One ratio for each shift: mean absolute second difference across the lines over that
        elsewhere, 1 where there is no seam.  Both directions enter with equal weight per px.
    """
    on, n_on, off, n_off = np.zeros(len(shifts)), np.zeros(len(shifts)), 0.0, 0
    for axis, own in enumerate(lines):
        total, count = second_differences(image, axis, smooth)
        place = np.arange(len(total) + 1)
        distance = np.abs(place[:, None] - np.concatenate([own, [0, len(total)]])).min(1)
        away = (distance[:-1] > REACH) & (distance[1:] > REACH)
        off, n_off = off + total[away].sum(), n_off + count[away].sum()
        for i, shift in enumerate(shifts):
            shifted = (own + shift) % len(total) if shift else own
            if shift:
                shifted = shifted[distance[shifted] > REACH]
            beside = np.concatenate([shifted - 1, shifted])
            on[i] += total[beside].sum()
            n_on[i] += count[beside].sum()
    return (on / n_on) / (off / n_off)


def draw_shifts(lines, shape, rng):
    """
    Draw random shifts that bring most lines away from all true ones.

    Parameters
    ----------
    lines : tuple of `numpy.ndarray`
        As for `seam_statistic`.
    shape : tuple of int
        Of the frame.
    rng : `numpy.random.Generator`
        Source of chance.

    Returns
    -------
    shifts : list of int
        `N_SHIFTS` of them in px, at each of which two lines of three count.
    """
    shifts = []
    while len(shifts) < N_SHIFTS:
        shift, kept = int(rng.integers(1, max(shape))), []
        for own, n in zip(lines, shape, strict=True):
            taken = np.concatenate([own, [0, n]])
            kept.extend(np.abs((own + shift)[:, None] % n - taken).min(1) > REACH)
        if np.mean(kept) > 2 / 3:
            shifts.append(shift)
    return shifts


def profile(image, lines, smooth=None):
    """
    Follow the mean absolute second difference from one side of the lines to the other.

    Parameters
    ----------
    image, lines, smooth
        As for `seam_statistic`.

    Returns
    -------
    ratio : `numpy.ndarray`
        (2 * `NEAR`,) relative to elsewhere, for the px from `NEAR` before the lines on.
    """
    total_near, count_near, off, n_off = np.zeros(2 * NEAR), np.zeros(2 * NEAR), 0.0, 0
    for axis, own in enumerate(lines):
        total, count = second_differences(image, axis, smooth)
        near = own[(own > NEAR) & (own < len(total) - NEAR)][:, None] + np.arange(-NEAR, NEAR)
        total_near += total[near].sum(0)
        count_near += count[near].sum(0)
        away = np.ones(len(total), bool)
        away[near] = False
        off, n_off = off + total[away].sum(), n_off + count[away].sum()
    return (total_near / count_near) / (off / n_off)


def smooth_part(scene, sigma):
    """
    Choose the part of a frame where the scene itself is smooth.

    Parameters
    ----------
    scene : `numpy.ndarray`
        (H, W) noiseless or nearly noiseless frame.
    sigma : float or `numpy.ndarray`
        Noise of the frame that is judged.

    Returns
    -------
    smooth : `numpy.ndarray`
        (H, W) bool: the Laplacian of the scene, smoothed by 1 px, is under `ROUGH` sigma within
        3 px.
    """
    rough = np.abs(ndimage.gaussian_laplace(scene.astype(float), 1.0)) > ROUGH * sigma
    return ~ndimage.maximum_filter(rough, 7)


# ----------------------------------------------------------------------------------- the frames

def pool_frame(number):
    """
    Make a frame of the pool: blank sky and nebula in turn.

    Parameters
    ----------
    number : int
        Of the frame.

    Returns
    -------
    scene : `scenes.Scene`
        Its truth.
    noisy : `numpy.ndarray`
        (`SIZE`, `SIZE`) the frame.
    """
    if number % 2:
        scene = scenes.make_scene('nebula', 'mid', number // 2, size=SIZE)
    else:
        truth = np.full((SIZE, SIZE), SKY)
        scene = scenes.Scene('sky', 'sky', 'mid', number, truth, SKY, READ_NOISE,
                             scenes.no_stars())
    return scene, scene.observe(np.random.default_rng([0x5EA, number]))


def reference(frame, model):
    """
    Denoise without any seam: one tile over the whole frame, or much overlap where it is too large.

    Parameters
    ----------
    frame : `numpy.ndarray`
        (H, W).
    model : str
        Weights.

    Returns
    -------
    denoised : `numpy.ndarray`
        (H, W).
    """
    side = -(-max(frame.shape) // TILE) * TILE
    if side > MAX_TILE:
        return denoise(frame, overlap=0.75, model=model)
    return denoise(frame, overlap=0, blend='none', tile_size=side, batch_size=1, model=model)


def measure(n_frames, model):
    """
    Measure both modes over the pool.

    Parameters
    ----------
    n_frames : int
        Of the pool.
    model : str
        Weights.

    Returns
    -------
    figures : dict
        (kind of frame, mode, 'output' or 'error') -> [statistic, mean of the shifted, scatter];
        the kinds are 'sky', 'nebula' and 'all'.
    profiles : dict
        Mode -> profile of the error over all frames.
    """
    ratios, profiles = {}, {mode: [] for mode in MODES}
    for number in range(n_frames):
        print(f'\rframe {number + 1} of {n_frames}', end='', file=sys.stderr, flush=True)
        scene, noisy = pool_frame(number)
        smooth = smooth_part(scene.truth_electrons, scene.sigma)
        for mode, keywords in MODES.items():
            lines = tuple(tile_lines(n, keywords['overlap']) for n in noisy.shape)
            shifts = draw_shifts(lines, noisy.shape, np.random.default_rng(31))  # always the same
            output = denoise(noisy, model=model, **keywords)
            error = (output - scene.truth_electrons) / scene.sigma
            for what, image in (('output', output), ('error', error)):
                found = seam_statistic(image, lines, shifts=[0, *shifts], smooth=smooth)
                for kind in (scene.kind, 'all'):
                    ratios.setdefault((kind, mode, what), []).append(found)
            profiles[mode].append(profile(error, lines, smooth))
    print(file=sys.stderr)
    figures = {}
    for key, found in ratios.items():
        pooled = np.mean(found, axis=0)  # every frame counts alike, bright ones no more
        figures[key] = [pooled[0], pooled[1:].mean(), pooled[1:].std(ddof=1)]
    return figures, {mode: np.mean(found, axis=0) for mode, found in profiles.items()}


def frame_figures(frame, outputs, flat):
    """
    Measure both modes on one frame without a truth: on the outputs and on the frame without seams.

    One frame is uneven: what its statistic should be says the frame without seams, along the same
    lines.

    Parameters
    ----------
    frame : `numpy.ndarray`
        (H, W) noisy frame.
    outputs : dict
        Mode -> denoised frame.
    flat : `numpy.ndarray`
        (H, W) the frame without seams.

    Returns
    -------
    figures, profiles : dict
        As `measure` gives them, of the kind 'frame'.
    """
    smooth, figures, profiles = smooth_part(flat, mad_std(frame - flat)), {}, {}
    for mode, output in outputs.items():
        lines = tuple(tile_lines(n, MODES[mode]['overlap']) for n in frame.shape)
        shifts = draw_shifts(lines, frame.shape, np.random.default_rng(31))
        for what, image in (('output', output), ('seam-free', flat)):
            found = seam_statistic(image, lines, shifts=[0, *shifts], smooth=smooth)
            figures['frame', mode, what] = [found[0], found[1:].mean(), found[1:].std(ddof=1)]
        profiles[mode] = profile(output, lines, smooth)
    return figures, profiles


# ---------------------------------------------------------------------------------- the picture

def crop_at_corner(naive, flat, sigma):
    """
    Choose what is shown: round the corner of four naive tiles where most of the seams shows.

    Parameters
    ----------
    naive, flat : `numpy.ndarray`
        (H, W) frames from naive tiles and without seams.
    sigma : float
        Noise of the noisy frame.

    Returns
    -------
    crop : tuple of slice
        Rows and columns; the frame's beginning where there is no such corner.
    """
    def prominence(crop):
        shown = np.abs(flat[crop] - np.median(flat[crop])) < STRETCH * sigma
        enough = np.mean(shown) > SHOWN
        return np.mean(np.abs(naive[crop] - flat[crop]) * shown) * enough

    crops = [(slice(0, CROP), slice(0, CROP))]
    for row in range(TILE, naive.shape[0] - CROP // 2 + 1, TILE):
        for column in range(TILE, naive.shape[1] - CROP // 2 + 1, TILE):
            crops.append(tuple(slice(i - CROP // 2, i + CROP // 2) for i in (row, column)))
    return max(crops[1:] or crops, key=prominence)


def draw(path, frame, outputs, flat, profiles):
    """
    Draw noisy, naive and overlapping with one stretch, and what they differ by from the reference.

    Parameters
    ----------
    path : `pathlib.Path`
        The PNG file.
    frame : `numpy.ndarray`
        (H, W) noisy frame.
    outputs : dict
        Mode -> denoised frame.
    flat : `numpy.ndarray`
        The frame without seams.
    profiles : dict
        Mode -> profile of the second differences.
    """
    sigma = mad_std(frame - flat)
    crop = crop_at_corner(outputs['naive'], flat, sigma)
    middle = np.median(flat[crop])
    white = max(STRETCH * sigma, np.quantile(np.abs(flat[crop] - middle), SHOWN))
    dpi, gap, head = 100, 8, 24  # px
    width, height = 3 * CROP + 2 * gap, 2 * (CROP + head) + 4
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)

    def axes(column, row, *, inner=False):
        x, y = column * (CROP + gap), height - head - CROP - row * (CROP + head)
        box = (x + 34, y + 42, CROP - 54, CROP - 44) if inner else (x, y, CROP, CROP)
        return figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))

    def show(ax, image, title):
        ax.imshow(image, cmap='gray', vmin=-1, vmax=1, origin='lower', interpolation='nearest')
        ax.set_title(title, fontsize=11, pad=4)
        ax.set_axis_off()

    panels = {'noisy': frame, 'naive tiles': outputs['naive'],
              'overlapping tiles': outputs['overlapping']}
    for column, (title, image) in enumerate(panels.items()):
        show(axes(column, 0), (image[crop] - middle) / white, title)
    for column, mode in enumerate(MODES, start=1):
        show(axes(column, 1), (outputs[mode] - flat)[crop] / (DIFFERENCE * sigma),
             f'{mode} minus seam-free, ±{DIFFERENCE:g} sigma')
    ax, place = axes(0, 1, inner=True), np.arange(-NEAR, NEAR) + 0.5
    for mode, ratio in profiles.items():
        ax.plot(place, ratio, 'o-', markersize=3, color=COLOURS[mode], label=mode)
    ax.axvline(0, color='0.7', linewidth=0.8, zorder=0)
    ax.set(xlim=(-NEAR, NEAR), ylim=(0, None))
    ax.set_title('second difference, relative to elsewhere', fontsize=11, pad=4)
    ax.set_xlabel("px from a tile's edge", fontsize=10)
    ax.tick_params(labelsize=9)
    ax.spines[['top', 'right']].set_visible(False)
    ax.legend(frameon=False, fontsize=10)
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format='png')
        picture = np.asarray(Image.open(buffer).convert('RGB'), dtype=np.int32)
    with_palette(picture).save(path, optimize=True)


def with_palette(picture):
    """
    Reduce a picture to greys and the two colours of the lines: half the bytes.

    Parameters
    ----------
    picture : `numpy.ndarray`
        (H, W, 3) integers, 0 to 255.

    Returns
    -------
    reduced : `PIL.Image.Image`
        With a palette.
    """
    colours = np.array([[int(name[i:i + 2], 16) for i in (1, 3, 5)] for name in COLOURS.values()])
    greys = np.linspace(0, 255, GREYS)[:, None].repeat(3, axis=1)
    blends = [share * colours + (1 - share) * 255 for share in (1.0, 0.75, 0.5, 0.25)]
    palette = np.concatenate([greys, *blends]).round().astype(np.int32)
    distance = np.stack([((picture - entry) ** 2).sum(-1) for entry in palette])
    reduced = Image.fromarray(distance.argmin(0).astype(np.uint8), mode='P')
    reduced.putpalette(palette.astype(np.uint8).tobytes())
    return reduced


# --------------------------------------------------------------------------------- command line

def table_lines(figures):
    """
    Write the statistic of every kind of frame, mode and image.

    Parameters
    ----------
    figures : dict
        As `measure` makes them.

    Returns
    -------
    lines : list of str
        An rst table.
    """
    rows = [['frames', 'tiles', 'of the', 'statistic', 'shifted lines']]
    order = ('sky', 'nebula', 'all', 'frame')
    for key in sorted(figures, key=lambda key: (order.index(key[0]), key[1:])):
        (kind, mode, what), (value, middle, scatter) = key, figures[key]
        rows.append([kind, mode, what, f'{value:.3f}', f'{middle:.3f} ± {scatter:.3f}'])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = '  '.join('=' * width for width in widths)
    text = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]
    return [rule, text[0], rule, *text[1:], rule]


def verdict_lines(figures):
    """
    Say whether overlapping tiles leave seams.

    Parameters
    ----------
    figures : dict
        As `measure` or `frame_figures` makes them.

    Returns
    -------
    lines : list of str
        For the output and the error over the pool, or for the one frame.
    """
    lines = []
    for (kind, mode, what), (value, middle, scatter) in figures.items():
        if mode != 'overlapping' or what == 'seam-free':
            continue
        if kind == 'all':
            met = abs(value - 1) <= BOUND and abs(value - middle) <= 2 * scatter
            lines.append(f'overlapping tiles, {what}: {value:.3f}, bound 1 ± {BOUND} and within 2 '
                         f'scatters of shifted lines: {"met" if met else "NOT met"}')
        elif kind == 'frame':
            value /= figures[kind, mode, 'seam-free'][0]
            met = abs(value - 1) <= BOUND
            lines.append(f'overlapping tiles over the seam-free frame: {value:.3f}, bound 1 ± '
                         f'{BOUND}: {"met" if met else "NOT met"}')
    return lines


def parse(arguments=None):
    """
    Read the command line.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of ``sys.argv``.

    Returns
    -------
    options : `argparse.Namespace`
        The options.
    """
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--figure', type=Path, metavar='PNG', help='draw the figure there')
    parser.add_argument('--frame', type=Path, metavar='FITS',
                        help='show and measure this frame instead of simulated ones')
    parser.add_argument('--quick', action='store_true', help=f'pool {QUICK_FRAMES} frames only')
    parser.add_argument('--frames', type=int, metavar='N',
                        help=f'frames of the pool, 1 Mpx each; {FRAMES} by default')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures there')
    parser.add_argument('--model', default='default', help='weights')
    options = parser.parse_args(arguments)
    if options.frames is None:
        options.frames = QUICK_FRAMES if options.quick else FRAMES
    return options


def read_frame(path):
    """
    Read the first plane of the first image of a FITS file.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    frame : `numpy.ndarray`
        (H, W) float32.
    """
    with fits.open(path) as hdus:
        data = next(hdu.data for hdu in hdus if hdu.is_image and hdu.data is not None)
    return data.reshape(-1, *data.shape[-2:])[0].astype(np.float32)


def main(arguments=None):
    """
    Measure, print the table and draw the figure.

    Parameters
    ----------
    arguments : list of str, optional
        Instead of ``sys.argv``.

    Returns
    -------
    status : int
        0.
    """
    options = parse(arguments)
    if options.figure or options.frame:
        frame = read_frame(options.frame) if options.frame else pool_frame(1)[1]
        flat = reference(frame, options.model)
        outputs = {mode: denoise(frame, model=options.model, **keywords)
                   for mode, keywords in MODES.items()}
        for mode, output in outputs.items():
            away = np.std(output - flat) / mad_std(frame - flat)
            print(f'{mode}: differs from the seam-free frame by {away:.4f} sigma rms')
    if options.frame:
        figures, profiles = frame_figures(frame, outputs, flat)
    else:
        figures, profiles = measure(options.frames, options.model)
    print('\n'.join(table_lines(figures)))
    print('\n'.join(verdict_lines(figures)))
    if options.figure:
        draw(options.figure, frame, outputs, flat, profiles)
    if options.json:
        plain = {' '.join(key): [float(v) for v in value] for key, value in figures.items()}
        options.json.write_text(json.dumps(plain, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
