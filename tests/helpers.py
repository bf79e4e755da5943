# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What several tests need."""

import subprocess
import sys
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]  # of the checkout
USUAL_EXAMPLES = 40  # of a property that does not say how many


def run_python(code, *arguments, env=None):
    """
    Run code in a fresh interpreter in the checkout's root.

    Parameters
    ----------
    code : str
        The program.
    *arguments : str
        Its ``sys.argv[1:]``.
    env : dict, optional
        The whole environment of the process.

    Returns
    -------
    output : str
        What it printed; an exit code other than 0 fails the test.
    """
    done = subprocess.run(
        [sys.executable, '-c', code, *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def examples(n, **keys):
    """
    Set how many examples a property is tried on.

    Parameters
    ----------
    n : int
        How many; ten times as many where ``HYPOTHESIS_PROFILE=explore`` asks for more.
    **keys : object
        Other settings of hypothesis.

    Returns
    -------
    settings : `hypothesis.settings`
        Decorates a test.
    """
    return settings(max_examples=n * settings.default.max_examples // USUAL_EXAMPLES, **keys)
