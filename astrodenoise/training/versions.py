# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""On what the bits of a training depend, beside its configuration."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from astrodenoise._version import __version__

__all__ = ['made_with']

PACKAGES = ('astropy', 'numpy', 'photutils', 'safetensors', 'scipy')


def made_with():
    """
    Name everything on which the bits of a training depend, beside its configuration.

    Returns
    -------
    versions : dict
        Of this package, of the Git checkout that it runs from (None where it is none; ending in
        '-dirty' where files were changed), of Python, of the packages it stands on (None where one
        is not installed), and the processor.
    """
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found | {
        'astrodenoise': __version__,
        'commit': _commit(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'processor': f'{platform.machine()} {torch.backends.cpu.get_cpu_capability()}',
    }


def _commit():
    """Commit of the checkout that this file lies in, None where it is none."""
    root = Path(__file__).parents[2]
    if not (root / '.git').exists():
        return None
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*']
    try:
        done = subprocess.run(
            command, cwd=root, capture_output=True, text=True, check=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
