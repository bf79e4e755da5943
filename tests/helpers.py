# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""What several tests need."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of the checkout


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
