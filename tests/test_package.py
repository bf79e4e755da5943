# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The house: its face, its floors, its documents."""

import ast
import dataclasses
import importlib
import inspect
import json
import os
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
from astropy.nddata import CCDData
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import astrodenoise
from helpers import ROOT, run_python

HEADER = '# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst\n'
PACKAGE = Path(astrodenoise.__file__).parent
PYPROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))

# the lowest floor first; a module imports from its own floor and from those below
FLOORS = (
    {'exceptions', '_config', '_version'},
    {
        *('background', 'cells', 'controls', 'correlation', 'devices', 'errormap', 'estimate'),
        *('features', 'frames', 'known', 'limit', 'marks', 'model', 'noise', 'noisemap'),
        *('noisemodel', 'options', 'panels', 'pieces', 'products', 'provenance', 'sections'),
        *('sigmaplane', 'survey', 'tiling', 'validity'),
    },
    {
        *('apart', 'arguments', 'argtypes', 'atomic', 'companions', 'compressedtiles', 'console'),
        *('filecontext', 'files'),
        *('fitsbytes', 'fitsfiles', 'fitslayouts', 'fitswriter', 'inject', 'manifest', 'measures'),
        *('mosaic', 'noisefield', 'noisefiles', 'pictures', 'places', 'plotting', 'progress'),
        *('protection', 'psfmodel', 'quality', 'starmask', 'tiffpictures', 'trainedrange'),
        *('weightmap', 'weights', 'weightscard', 'xisfblocks', 'xisffiles', 'xisfheader'),
        *('xisfkeywords',),
    },
    {'diskframes', 'engine', 'lazy', 'preparation', 'removal', 'training'},
    {'core'},
    {
        *('batch', 'blending', 'demo', 'evaluation', 'frametasks', 'jobs', 'preview', 'report'),
        *('reportchecks', 'reportdata', 'reportfigures', 'reportpage', 'reportpicture'),
        *('reportpixels', 'reportquestions', 'reporttables', 'resume', 'scaleout', 'settings'),
        *('trustbins', 'trustcheck', 'trustplot', 'trustresult'),
    },
    {'commands'},
    {'cli'},
)
FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}


def module_names():
    """Name the package's modules, relative to it: 'core', 'training.trainer', 'training'."""
    names = []
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(PACKAGE).with_suffix('').parts
        if parts != ('__init__',):
            names.append('.'.join(part for part in parts if part != '__init__'))
    return names


MODULES = module_names()


def path_of(module):
    path = PACKAGE / module.replace('.', '/')
    return path / '__init__.py' if path.is_dir() else path.with_suffix('.py')


def is_typing_guard(node):
    return isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test)


def nodes_run_at_import(tree):
    """Walk what importing a module executes: not functions, not blocks for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield node
        if not is_typing_guard(node):
            yield from nodes_run_at_import(node)


def imported(module, *, everywhere=True):
    """Name all that a module imports in full, `from x import y` as 'x.y'."""
    path = path_of(module)
    tree = ast.parse(path.read_text(encoding='utf-8'))
    package = f'astrodenoise.{module}'.split('.')
    package = package if path.name == '__init__.py' else package[:-1]
    for node in ast.walk(tree) if everywhere else nodes_run_at_import(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            start = '.'.join([*start, *([node.module] if node.module else [])])
            yield from (f'{start}.{alias.name}' for alias in node.names)


def own_imports(module, *, everywhere=True):
    """Name the modules of ours that a module imports, relative to the package."""
    for name in imported(module, everywhere=everywhere):
        root, _, rest = name.partition('.')
        if root != 'astrodenoise' or not rest:
            continue
        rest = astrodenoise._MODULE_OF.get(rest, rest)
        rest = '_version' if rest == '__version__' else rest
        # the longest part that is a module: the rest is a name in it
        while rest and rest not in MODULES:
            rest = rest.rpartition('.')[0]
        assert rest, f'astrodenoise.{module} imports {name}, which is in no module of ours'
        yield rest


def foreign_imports(module, *, everywhere=True):
    """Name the packages that are neither ours nor Python's that a module imports."""
    roots = {name.partition('.')[0] for name in imported(module, everywhere=everywhere)}
    return roots - set(sys.stdlib_module_names) - {'astrodenoise'}


def public_objects():
    """Give everything in an ``__all__`` and the public methods of its classes, by full name."""
    for module in MODULES:
        name = f'astrodenoise.{module}'
        if module.endswith('__main__'):
            continue  # runs when it is loaded
        loaded = importlib.import_module(name)
        for public in getattr(loaded, '__all__', []):
            value = getattr(loaded, public)
            if getattr(value, '__module__', None) != name:
                continue
            if inspect.isclass(value):
                yield f'{name}.{public}', value
                yield from (
                    (f'{name}.{public}.{method}', member)
                    for method, member in vars(value).items()
                    if not method.startswith('_')
                    and (inspect.isfunction(member) or isinstance(member, classmethod))
                )
            elif inspect.isfunction(value):
                yield f'{name}.{public}', value


def code_blocks(text, language):
    """Give the dedented code blocks of one language in a text in reStructuredText."""
    blocks = re.findall(rf'\.\. code-block:: {language}\n\n((?:(?: {{4}}.*)?\n)+)', text)
    return [inspect.cleandoc(block) for block in blocks]


def test_import_loads_nothing_heavy():
    heavy = json.loads(
        run_python(
            'import json, sys; import astrodenoise;'
            'print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))'
        )
    )
    assert 'astrodenoise' in heavy
    assert not {'numpy', 'scipy', 'astropy', 'ccdproc', 'photutils', 'torch'} & set(heavy)


def test_help_loads_neither_torch_nor_photutils():
    output = run_python(
        """
import json, runpy, sys
sys.argv = ['astrodenoise', '--help']
try:
    runpy.run_module('astrodenoise.cli', run_name='__main__')
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
"""
    )
    *printed, loaded = output.splitlines()
    assert 'usage' in printed[0].lower()
    assert not {'torch', 'photutils'} & set(json.loads(loaded))


@pytest.mark.parametrize('name', astrodenoise.__all__)
def test_public_name_is_there(name):
    assert getattr(astrodenoise, name) is not None
    assert name in dir(astrodenoise)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'astrodenoise' has no attribute 'undenoise'"):
        _ = astrodenoise.undenoise


def test_setting_is_read_from_our_own_folder(tmp_path):
    folder = tmp_path / 'astrodenoise'
    folder.mkdir()
    (folder / 'astrodenoise.cfg').write_text('auto_logging = False\n', encoding='utf-8')
    code = 'from astrodenoise import conf; print(conf.auto_logging)'
    environment = os.environ | {'XDG_CONFIG_HOME': str(tmp_path)}
    assert run_python(code, env=environment).strip() == 'False'
    assert astrodenoise.conf.auto_logging is True


def test_every_file_starts_with_the_licence():
    folders = ('astrodenoise', 'benchmarks', 'docs', 'tests')
    paths = [path for folder in folders for path in (ROOT / folder).rglob('*.py')]
    assert len(paths) > 10
    without = [path for path in paths if not path.read_text(encoding='utf-8').startswith(HEADER)]
    assert not without


@pytest.mark.parametrize('module', MODULES)
def test_module_has_a_docstring(module):
    docstring = ast.get_docstring(ast.parse(path_of(module).read_text(encoding='utf-8')))
    assert docstring
    assert docstring.splitlines()[0].endswith('.')


@pytest.mark.parametrize('module', MODULES)
def test_imports_run_downwards(module):
    own = module.partition('.')[0]
    assert own in FLOOR_OF, f'{module} has no floor: give it one here and in architecture.rst'
    for other in {name.partition('.')[0] for name in own_imports(module)} - {own}:
        assert FLOOR_OF[other] <= FLOOR_OF[own], f'{module} imports {other} from a floor above'


def test_imports_have_no_circle():
    # a package's __init__ holds no code, so a module stands for itself only
    graph = {module: set(own_imports(module)) - {module} for module in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(MODULES)


def test_training_is_reached_from_the_command_line_alone():
    # the demo is a command too: its frame is one of the simulated scenes
    above = {'training', 'commands', 'demo'}
    outside = [name for name in MODULES if name.partition('.')[0] not in above]
    reached = [
        module for module in outside if any(n.startswith('training') for n in own_imports(module))
    ]
    assert not reached


def test_training_runs_on_torch_and_scipy_alone():
    todo = [name for name in MODULES if name.partition('.')[0] == 'training']
    assert todo
    seen = set()
    while todo:
        module = todo.pop()
        seen.add(module)
        others = foreign_imports(module, everywhere=False)
        assert others <= {'numpy', 'scipy', 'torch'}, f'{module} is loaded by training'
        todo += set(own_imports(module, everywhere=False)) - seen


def test_imports_are_declared():
    declared = PYPROJECT['project']['dependencies']
    extras = PYPROJECT['project']['optional-dependencies']
    optional = [line for extra in ('dask', 'images', 'pictures', 'train') for line in extras[extra]]
    required, optional = (
        {re.match('[a-z-]+', line).group() for line in lines} for lines in (declared, optional)
    )
    names = {'PIL': 'pillow'}
    for module in MODULES:
        always = {names.get(n, n) for n in foreign_imports(module, everywhere=False)}
        anywhere = {names.get(n, n) for n in foreign_imports(module)}
        assert always <= required, module
        assert anywhere <= required | optional, module


def test_no_public_function_bears_the_name_of_a_module():
    stems = {module.rpartition('.')[2] for module in MODULES}
    functions = {name.rpartition('.')[2] for name, value in public_objects() if callable(value)}
    assert functions
    assert not functions & stems


def test_public_docstrings_follow_numpydoc():
    checks = set(PYPROJECT['tool']['numpydoc_validation']['checks']) - {'all'}
    faults = []
    for name, value in public_objects():
        waived = checks
        if dataclasses.is_dataclass(value):
            # its fields are parameters and attributes in one: documented once, as attributes
            waived = waived | {'PR01'}
            attributes = NumpyDocString(inspect.getdoc(value))['Attributes']
            documented = {part for entry in attributes for part in entry.name.split(', ')}
            missing = {field.name for field in dataclasses.fields(value)} - documented
            faults += [f'{name}: field {field} is not documented' for field in sorted(missing)]
        found = validate(name)['errors']
        faults += [f'{name}: {code} {text}' for code, text in found if code not in waived]
    assert not faults, '\n'.join(faults)


def test_every_module_is_in_the_architecture():
    page = (ROOT / 'docs/development/architecture.rst').read_text(encoding='utf-8')
    paths = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob('*.py')}
    listed = set(re.findall(r'^``([a-z0-9_/]+\.py)``$', page, re.MULTILINE))
    assert listed == paths


def test_ci_runs_the_commands_of_the_readme():
    install, test = code_blocks((ROOT / 'README.rst').read_text(encoding='utf-8'), 'bash')
    steps = [line.strip().removesuffix(' && \\') for line in install.splitlines()]
    assert steps[0].startswith('python3 -m venv .venv')
    lines = (ROOT / '.ci/run').read_text(encoding='utf-8').splitlines()
    assert test in lines
    assert any(line.startswith(steps[1]) for line in lines)  # its output goes to a file
    assert f'{steps[2].removesuffix("demo")}"$work/demo"' in lines


def test_readme_code_finds_the_stars(tmp_path, rng):
    rows, cols = np.mgrid[:128, :128]
    stars = [(30, 40), (64, 100), (100, 30)]
    scene = 500 + sum(
        300 * np.exp(-0.5 * ((rows - y) ** 2 + (cols - x) ** 2) / 1.6**2) for y, x in stars
    )
    files = []
    for number in range(4):
        exposure = CCDData(scene + rng.normal(0, 20, scene.shape), unit='adu')
        files.append(str(tmp_path / f'{number}.fits'))
        exposure.write(files[-1])
    (code,) = code_blocks((ROOT / 'README.rst').read_text(encoding='utf-8'), 'python')
    scope = {'files': files}
    exec(code, scope)
    found = np.flip(scope['catalogue'].centroid, axis=1)  # to (y, x)
    assert all(np.hypot(*(found - star).T).min() < 0.5 for star in stars)


def test_versions_agree():
    changes = (ROOT / 'CHANGES.rst').read_text(encoding='utf-8')
    assert changes.split(maxsplit=1)[0] == re.sub(r'\.dev\d+$', '', astrodenoise.__version__)
    citation = (ROOT / 'CITATION.cff').read_text(encoding='utf-8')
    assert f'\nversion: {astrodenoise.__version__}\n' in citation


def test_oldest_versions_are_the_declared_ones():
    """What tox installs as the oldest are the bounds themselves, and every dependency has one."""
    text = (ROOT / 'setup.cfg').read_text(encoding='utf-8')
    assert 'uv pip install --resolution lowest-direct' in text
    extras = PYPROJECT['project']['optional-dependencies']
    every = PYPROJECT['project']['dependencies'] + extras['test'] + extras['train']
    for line in every:
        assert '>=' in line or line.startswith('astrodenoise['), line
