# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Workers in which files fail as their names say; little is imported, so that they start fast."""

import os
import signal
import time
from pathlib import Path

from distributed import WorkerPlugin


class Faults(WorkerPlugin):
    """Makes files do to a worker what their names say, and counts what it reads."""

    name = 'faults'

    def setup(self, worker):
        from astrodenoise import atomic, batch, weights

        real, load = batch.denoise_file, weights.load_weights
        weights.n_loads = 0

        def count(name):
            weights.n_loads += 1
            return load(name)

        def faulty(job, args, **options):
            source = Path(job.source)
            died = source.with_suffix('.died')
            if source.name.startswith('deadly'):
                os.kill(os.getpid(), signal.SIGKILL)
            if source.name.startswith('slow') and not died.exists():
                with atomic.atomic_write(job.target) as handle:
                    handle.write(bytes(2880))
                    handle.flush()
                    died.write_text(str(os.getpid()), encoding='utf-8')
                    time.sleep(60)  # until it is killed
            note = real(job, args, **options)
            if source.name.startswith('done') and not died.exists():
                died.write_text('done', encoding='utf-8')
                os.kill(os.getpid(), signal.SIGKILL)
            return note

        # before the engine is loaded, which takes its load_weights from there
        batch.denoise_file, weights.load_weights = faulty, count


def n_loads():
    """Count, in a worker, the weights that were loaded."""
    from astrodenoise import weights

    return weights.n_loads
