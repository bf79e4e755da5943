# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Training of the networks: scenes, synthetic noise, losses and one explicit loop."""
