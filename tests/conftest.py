# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Settings and fixtures of all tests."""

import os
import signal
from importlib.metadata import version
from pathlib import Path

# read when torch is first loaded: more threads than this only get in each other's way on small
# frames, and 64 of them do so badly
os.environ.setdefault('OMP_NUM_THREADS', '2')
os.environ.setdefault('MPLBACKEND', 'agg')

import hypothesis
import numpy as np
import pytest
from pytest_astropy_header.display import PYTEST_HEADER_MODULES, TESTED_VERSIONS

import astrodenoise
import loopback
from helpers import ROOT, USUAL_EXAMPLES

# a shell that runs the tests in its background lets them ignore Ctrl-C, which several of them send
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# here, and in every Python that a test starts
loopback.refuse_other_addresses()
OFFLINE = Path(loopback.__file__).parent / 'offline'
os.environ['PYTHONPATH'] = os.pathsep.join(
    [str(OFFLINE), *filter(None, [os.environ.get('PYTHONPATH')])]
)

# a test run says the same today and tomorrow; the first example of a network may take long
hypothesis.settings.register_profile(
    'ci', deadline=None, derandomize=True, database=None, max_examples=USUAL_EXAMPLES
)
hypothesis.settings.register_profile('explore', deadline=None, max_examples=10 * USUAL_EXAMPLES)
hypothesis.settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'ci'))


def pytest_configure(config):
    PYTEST_HEADER_MODULES.clear()
    # the header would import each module of its own list
    for name in ('numpy', 'scipy', 'astropy', 'ccdproc', 'photutils', 'torch', 'safetensors'):
        TESTED_VERSIONS[name] = version(name)
    TESTED_VERSIONS['astrodenoise'] = astrodenoise.__version__


@pytest.fixture
def rng():
    """Give random numbers that are the same in every run."""
    return np.random.default_rng(20260501)


@pytest.fixture(scope='session')
def shared_data():
    """Give the folder of real frames that is no part of the project; skip where it is missing."""
    folder = Path(os.environ.get('ASTRODENOISE_FRAMES', ROOT.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip('the real frames are not here: set ASTRODENOISE_FRAMES to their folder')
    return folder
