# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Python runs this as it starts where the tests have put the folder on the path."""

import runpy
from pathlib import Path

runpy.run_path(Path(__file__).parents[1] / 'loopback.py')['refuse_other_addresses']()
