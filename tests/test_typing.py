# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The types that editors and mypy read are those of the functions."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import astrodenoise
from helpers import ROOT

STUB = ast.parse(Path(astrodenoise.__file__).with_suffix('.pyi').read_text(encoding='utf-8'))
FUNCTIONS = [
    name for name in astrodenoise.__all__ if inspect.isfunction(getattr(astrodenoise, name))
]


def declared(name):
    """Give the signatures that the stub declares for a function, which has types throughout."""
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            parts = node.args
            every = [*parts.args, *parts.kwonlyargs, *filter(None, [parts.kwarg])]
            assert all([node.returns, *(one.annotation for one in every)])
            for one in every:
                one.annotation = None
            node.returns, node.decorator_list = None, []
            scope = {}
            exec(ast.unparse(node), scope)
            yield inspect.signature(scope[name])


@pytest.mark.parametrize('name', FUNCTIONS)
def test_stub_has_the_parameters_of_the_function(name):
    found = list(declared(name))
    assert found
    real = inspect.signature(getattr(astrodenoise, name))
    plain = [
        [(one.name, one.kind, one.default) for one in signature.parameters.values()]
        for signature in (real, *found)
    ]
    for signature in plain[1:2]:
        assert signature == plain[0]
    for signature in plain[2:]:  # of further overloads the defaults differ
        assert [one[:2] for one in signature] == [one[:2] for one in plain[0]]


def test_stub_names_what_is_public():
    (names,) = [
        ast.literal_eval(node.value)
        for node in STUB.body
        if isinstance(node, ast.Assign) and node.targets[0].id == '__all__'
    ]
    assert names == astrodenoise.__all__


REFUSED = {  # what a caller may get wrong, and the error of mypy
    "denoise(plane, 0.25, 'fast')": 'call-arg',
    "denoise(plane, strength='much')": 'arg-type',
    "denoise(plane, precision='float8')": 'arg-type',
    "denoise(plane, blend='cosine')": 'arg-type',
    'denoise(plane, gain=1.5)': 'call-arg',
    'denoise(plane).header': 'attr-defined',
    'star_mask(plane, sigma=3)': 'call-arg',
}


def test_mypy_takes_the_right_calls_and_refuses_the_wrong_ones(tmp_path):
    """It finds no error in the package and in tests/typed_use.py, and one in each wrong call."""
    pytest.importorskip('mypy')
    if not (ROOT / 'astrodenoise').is_dir():
        pytest.skip('mypy reads the sources, and an installed package is tested without them')
    wrong = tmp_path / 'wrong.py'
    begin = 'import numpy as np\nfrom astrodenoise import denoise, star_mask\n'
    begin += 'plane = np.zeros((9, 9))\n'
    wrong.write_text(begin + '\n'.join(REFUSED) + '\n')
    command = [sys.executable, '-m', 'mypy', 'astrodenoise', 'tests/typed_use.py', str(wrong)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if ': error: ' in line]
    found = [re.fullmatch(r'.*wrong\.py:(\d+): error: .*\[(.+)\]', line) for line in errors]
    assert all(found), done.stdout + done.stderr
    first = begin.count('\n') + 1
    expected = [(str(first + i), code) for i, code in enumerate(REFUSED.values())]
    assert [one.groups() for one in found] == expected
