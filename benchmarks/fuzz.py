# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""
Coverage-guided fuzzing of what comes from outside: frames and weights.

``python benchmarks/fuzz.py frames --minutes 10`` mutates the files of the tests' corpus of bad
frames, reads them and measures their noise; ``weights`` changes the card and the tensors of a
small network and loads it.  Whatever is raised but the documented errors, takes 30 s or 2 GB is a
finding: it stops with an error and leaves the input in ``--folder``.  Give that file to reproduce
it.  Images whose decoder may end the process are read by a fork of the fuzzer, in place of the new
Python that the package starts: that takes milliseconds.  Needs ``pip install atheris``.
"""

import argparse
import hashlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'tests'))

import atheris
import numpy as np

PACKAGE = Path(__file__).resolve().parents[1] / 'astrodenoise'
LARGEST = 60_000  # bytes of an input
SLOWEST = 30  # s
MEMORY = 2048  # MB, of the process
ADDRESSES = 24 * 2**30  # bytes
FOLLOWED = ['astrodenoise', 'astropy.io.fits', 'tifffile', 'safetensors']
SUFFIXES = {b'\x89PNG': '.png', b'II*\0': '.tif', b'MM\0*': '.tif', b'XISF': '.xisf'}

with atheris.instrument_imports(include=FOLLOWED):
    from astrodenoise import apart, core, fitsbytes, model, weights
    from astrodenoise.exceptions import WeightsError
    from astrodenoise.filecontext import FrameError
    from astrodenoise.files import open_frames


def open_file(folder, data):
    """Open what may be a frame, as a command does; raise what no user should see."""
    path = folder / f'frame{SUFFIXES.get(data[:4], ".fits")}'
    path.write_bytes(data)
    try:
        contexts, read = open_frames(path)
    except FrameError as error:
        check_cause(error)
        return
    for context in contexts[:3]:
        try:
            ccd = read(context)
        except FrameError as error:
            check_cause(error)
            continue
        try:
            core.measure_noise(ccd)
        except (TypeError, ValueError) as error:
            if not is_ours(error):
                raise


def decode_in_a_fork(path, content, index):
    """Do what `astrodenoise.apart.decode_apart` does, in a fork."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE):
            signal.signal(number, signal.SIG_DFL)  # not a finding of the fuzzer
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(writer, 1)
        try:
            apart.write_pixels(path, index)
            sys.stdout.flush()
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, 'rb') as source:
        answer = source.read()
    if os.waitpid(process, 0)[1]:
        msg = f'HDU {index} was not decoded'
        raise ChildProcessError(msg)
    return np.load(io.BytesIO(answer), allow_pickle=False)


def check_cause(error):
    """Raise what our own code stumbles over, which the last resort of `files` words as damage."""
    cause = error.__cause__
    if last_code(error).co_name != '_named_errors' or isinstance(cause, OSError | ValueError):
        return
    if is_ours(cause):
        raise cause


def is_ours(error):
    """Whether an error was raised in this package, not in a library."""
    return Path(last_code(error).co_filename).is_relative_to(PACKAGE)


def last_code(error):
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    return last.tb_frame.f_code


def network_files():
    """Card and tensors of a small network, to be changed."""
    config = model.ModelConfig(widths=(4, 4), blocks=(1, 1))
    card = {'name': 'small', 'version': '1', 'licence': 'any', 'training': {}, 'metrics': {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'small.safetensors'
        weights.save_weights(path, model.ResUNet(config).state_dict(), config, card)
        card = json.loads(path.with_suffix('.json').read_text(encoding='utf-8'))
        shipped = weights.describe('fast')
        card |= {key: shipped[key] for key in ('calibration', 'trained_range') if key in shipped}
        return card, path.read_bytes()


def any_value(choices, depth=0):
    """Draw a value that JSON can hold, or nearly."""
    kind = choices.ConsumeIntInRange(0, 9 if depth < 3 else 6)
    if kind == 7:
        return [any_value(choices, depth + 1) for _ in range(choices.ConsumeIntInRange(0, 4))]
    if kind == 8:
        keys = [choices.ConsumeUnicodeNoSurrogates(6) for _ in range(2)]
        return {key: any_value(choices, depth + 1) for key in keys}
    if kind == 9:
        value = 1
        for _ in range(choices.ConsumeIntInRange(0, 900)):
            value = [value]
        return value
    return (
        None, choices.ConsumeBool(), choices.ConsumeInt(9), choices.ConsumeFloat(),
        choices.ConsumeUnicodeNoSurrogates(12), choices.ConsumeIntInRange(-5, 70), float('nan'),
    )[kind]  # fmt: skip


def change_card(card, choices):
    """Change entries of a card at any depth."""
    for _ in range(choices.ConsumeIntInRange(0, 3)):
        place = card
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = keys[choices.ConsumeIntInRange(0, len(keys) - 1)]
            deeper = isinstance(place[key], dict | list) and place[key]
            if deeper and choices.ConsumeBool():
                place = place[key]
                continue
            if choices.ConsumeIntInRange(0, 3):
                place[key] = any_value(choices)
            elif isinstance(place, dict):
                del place[key]
            break
    return card


def change_tensors(content, choices):
    """Change some bytes of a file: of its header's length, its header or its numbers."""
    content = bytearray(content)
    for _ in range(choices.ConsumeIntInRange(0, 3)):
        end = (8, 400, len(content))[choices.ConsumeIntInRange(0, 2)]
        start = choices.ConsumeIntInRange(0, min(end, len(content)))
        new = choices.ConsumeBytes(choices.ConsumeIntInRange(0, 8))
        content[start : start + choices.ConsumeIntInRange(0, 12)] = new
    return bytes(content)


def open_weights(folder, data):
    """Open a network's files after changes that the data choose; the checksum is put right."""
    choices = atheris.FuzzedDataProvider(data)
    card = change_card(json.loads(CARD), choices)
    tensors = change_tensors(TENSORS, choices)
    if isinstance(card.get('sha256'), str) and len(card['sha256']) == 64:
        card['sha256'] = hashlib.sha256(tensors).hexdigest()
    path = folder / 'network.safetensors'
    path.write_bytes(tensors)
    text = json.dumps(card).encode('utf-8', 'surrogatepass')
    path.with_suffix('.json').write_bytes(text[: choices.ConsumeIntInRange(1, 2 * len(text))])
    try:
        weights.load_weights(path)
    except WeightsError:
        return


def seeds_of_frames(folder):
    """Write the corpus of the tests to begin with."""
    import badframes

    badframes.write_corpus(folder)


def seeds_of_weights(folder):
    """Write some bytes to begin with: a few changes of each kind."""
    for number in range(16):
        (folder / f'seed{number}').write_bytes(hashlib.shake_128(bytes([number])).digest(256))


CARD, TENSORS = network_files()
CARD = json.dumps(CARD)
TARGETS = {'frames': (open_file, seeds_of_frames), 'weights': (open_weights, seeds_of_weights)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('target', choices=TARGETS)
    parser.add_argument('file', nargs='?', type=Path, help='a finding, to reproduce it')
    parser.add_argument('--minutes', type=float, default=10)
    parser.add_argument('--folder', type=Path, default=Path('fuzz'), help='of inputs and findings')
    parser.add_argument('--seed', type=int, default=1)
    args = parser.parse_args()
    run, write_seeds = TARGETS[args.target]
    warnings.simplefilter('ignore')
    fitsbytes.decode_apart = decode_in_a_fork
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    inputs = args.folder / args.target
    inputs.mkdir(parents=True, exist_ok=True)
    memory = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        if args.file is not None:
            run(Path(scratch), args.file.read_bytes())
            return
        write_seeds(inputs)
        options = [
            sys.argv[0], str(inputs), f'-max_total_time={int(60 * args.minutes)}',
            f'-max_len={LARGEST}', f'-timeout={SLOWEST}', f'-rss_limit_mb={MEMORY}',
            f'-seed={args.seed}', f'-artifact_prefix={args.folder}/{args.target}-',
            '-print_final_stats=1',
        ]  # fmt: skip
        atheris.Setup(options, lambda data: run(Path(scratch), data))
        atheris.Fuzz()


if __name__ == '__main__':
    main()
