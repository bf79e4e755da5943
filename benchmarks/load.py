# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Many frames through one process: what grows of memory, open files and the time per frame.

``python benchmarks/load.py`` denoises 500 frames of 1 Mpx, plain, of integers, packed and with
planes of sigma and mask, in one call of the command line, and looks at the process after each.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from astrodenoise.cli import main as astrodenoise

SIDE = 1024  # px
WARM = 10  # frames, after which nothing may grow
PART = 50  # frames of a line
MOST_GROWTH = 0.02  # of the memory
SLOWER = 1.05  # processor time of the last frames over that of the first


def write_frames(folder, side, rng):
    """Write one frame of each kind; their paths."""
    y, x = np.mgrid[:side, :side]
    light = np.full((side, side), 400.0)
    for _ in range(60):
        cy, cx, flux = *rng.uniform(0, side, 2), 10 ** rng.uniform(2, 4.5)
        part = np.s_[max(0, int(cy) - 20) : int(cy) + 20, max(0, int(cx) - 20) : int(cx) + 20]
        light[part] += flux * np.exp(-((y[part] - cy) ** 2 + (x[part] - cx) ** 2) / 4.5)

    def noisy():
        return (light + rng.normal(0, 15, light.shape)).astype(np.float32)

    planes = [
        fits.PrimaryHDU(), fits.ImageHDU(noisy(), name='SCI'),
        fits.ImageHDU(np.full(light.shape, 15, np.float32), name='ERR'),
        fits.ImageHDU((rng.random(light.shape) < 0.001).astype(np.uint8), name='MASK'),
    ]  # fmt: skip
    kinds = {
        'plain.fits': [fits.PrimaryHDU(noisy())],
        'integers.fits': [fits.PrimaryHDU(noisy().clip(0, 65535).astype(np.uint16))],
        'planes.fits': planes,
        'packed.fits': [fits.PrimaryHDU(), fits.CompImageHDU(noisy(), quantize_level=16)],
        'zipped.fits.gz': [fits.PrimaryHDU(noisy())],
    }
    for name, hdus in kinds.items():
        fits.HDUList(hdus).writeto(folder / name)
    return [folder / name for name in kinds]


def look():
    """Memory in MB, open files, threads and processor time of this process."""
    status = dict(
        line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines()
    )
    return {
        'rss': int(status['VmRSS'].split()[0]) / 1024,
        'peak': int(status['VmHWM'].split()[0]) / 1024,
        'files': len(os.listdir('/proc/self/fd')),
        'threads': int(status['Threads']),
        'seconds': time.perf_counter(),
        'cpu': time.process_time(),
    }


class Watch(threading.Thread):
    """Looks at the process after each frame, and removes what it made."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.seen, self.ended = folder, [look()], threading.Event()

    def run(self):
        while not self.ended.wait(0.02):
            self.collect()
        self.collect()

    def collect(self):
        """Count finished frames; unfinished ones have no name yet."""
        for path in [p for p in self.folder.iterdir() if not p.name.startswith('.')]:
            path.unlink()
            self.seen.append(look())
            n = len(self.seen) - 1
            if n % PART == 0:
                print_part(self.seen, n - PART, n)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--frames', type=int, default=500)
    parser.add_argument('--side', type=int, default=SIDE)
    parser.add_argument('--model', default='fast')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sources, names, made = (Path(scratch) / name for name in ('sources', 'in', 'out'))
        for folder in (sources, names, made):
            folder.mkdir()
        kinds = write_frames(sources, args.side, np.random.default_rng(1))
        files = []
        for number in range(args.frames):
            kind = kinds[number % len(kinds)]
            files.append(names / f'{number:04d}-{kind.name}')
            files[-1].symlink_to(kind)
        print('frames    RSS   peak  files  threads   s/frame  CPU s/frame')
        watch = Watch(made)
        watch.start()
        status = astrodenoise(
            ['denoise', *map(str, files), '-o', str(made), '--model', args.model, '-q']
        )
        watch.ended.set()
        watch.join()
    verdict = judge(watch.seen)
    print(f'{args.frames} frames of {args.side} px square, model {args.model}, status {status}')
    if args.json:
        args.json.write_text(json.dumps({'seen': watch.seen, 'verdict': verdict}, indent=1))
    return 0 if status == 0 and all(verdict['held'].values()) else 1


def print_part(seen, start, stop):
    """Print a line on a part of the frames."""
    first, last, n = seen[start], seen[stop], stop - start
    print(
        f'{stop:6d} {last["rss"]:6.0f} {last["peak"]:6.0f} {last["files"]:6d} '
        f'{last["threads"]:8d} {(last["seconds"] - first["seconds"]) / n:9.2f} '
        f'{(last["cpu"] - first["cpu"]) / n:12.2f}',
        flush=True,
    )


def judge(seen):
    """Print what grew."""
    warm, part = min(WARM, len(seen) // 2), min(PART, len(seen) // 3)
    early, late = seen[warm : warm + part + 1], seen[-part - 1 :]

    def usual(key, some):
        return float(np.median([one[key] for one in some]))

    def per_frame(key, some):
        return (some[-1][key] - some[0][key]) / (len(some) - 1)

    figures = {
        'memory': usual('rss', late) / usual('rss', early),
        # the fewest: at some looks the next frame is open
        'files': min(one['files'] for one in late) - min(one['files'] for one in early),
        'CPU time': per_frame('cpu', late) / per_frame('cpu', early),
        'time': per_frame('seconds', late) / per_frame('seconds', early),
    }
    held = {
        'memory': figures['memory'] < 1 + MOST_GROWTH,
        'files': figures['files'] <= 0,
        'CPU time': figures['CPU time'] < SLOWER,
    }
    for key, value in figures.items():
        word = {True: 'held', False: 'GREW'}.get(held.get(key), 'of this machine and its load')
        print(f'{key}, last {part} against frames {warm} to {warm + part}: {value:.3f}  {word}')
    return {'figures': figures, 'held': held}


if __name__ == '__main__':
    sys.exit(main())
