# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""``astrodenoise models``."""

import argparse

from astrodenoise.commands.command import DONE, Command
from astrodenoise.console import reason_of

__all__ = ['COMMAND']


def _add_arguments(parser):
    parser.add_argument(
        'name', nargs='?', metavar='NAME', help='model to describe, or a weights file'
    )


def _run(args):
    from astrodenoise.exceptions import WeightsError
    from astrodenoise.weights import describe, list_models

    if args.name is None:
        lines = _table([describe(name) | {'name': name} for name in list_models()])
    else:
        try:
            lines = _lines(describe(args.name))
        except WeightsError as error:
            raise argparse.ArgumentError(None, reason_of(error)) from error
    print('\n'.join(lines))
    return DONE


def _lines(card, indent=''):
    """Lay out a card: one line per entry, nested ones below."""
    width = max((len(str(key)) for key in card), default=0)
    for key, value in card.items():
        if isinstance(value, dict):
            yield f'{indent}{key}'
            yield from _lines(value, indent + '  ')
        else:
            text = ', '.join(map(str, value)) if isinstance(value, list) else value
            yield f'{indent}{key:<{width}}  {text}'


def _table(rows):
    """Lay out the entries that say at a glance which model is which."""
    columns = ['name', 'version', 'parameters', 'bytes', 'licence']
    cells = [columns] + [[str(row.get(key, '')) for key in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        text = '  '.join(f'{cell:<{n}}' for cell, n in zip(line, widths, strict=True))
        yield text.rstrip()


COMMAND = Command('models', 'list the models, or describe one', _add_arguments, _run)
