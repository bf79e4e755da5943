# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Nothing phones home: no test can, and what the package does from import to demo never tries."""

import ast
import json
import os
import socket
from pathlib import Path

import pytest

import astrodenoise
from helpers import run_python

# pytest-remotedata wraps what `socket` has; ours lies below, where `_socket` is
TRIES = """
import _socket, json
ELSEWHERE = ('192.0.2.1', 9)  # of a network that is there for examples
tcp, udp = _socket.socket(), _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
tcp.settimeout(2)
TRIES = {
    'connect': lambda: tcp.connect(ELSEWHERE),
    'connect_ex': lambda: tcp.connect_ex(ELSEWHERE),
    'sendto': lambda: udp.sendto(b'x', ELSEWHERE),
    'sendmsg': lambda: udp.sendmsg([b'x'], [], 0, ELSEWHERE),
    'getaddrinfo': lambda: _socket.getaddrinfo('example.org', 80),
    'gethostbyname': lambda: _socket.gethostbyname('example.org'),
}
told = {}
for name, attempt in TRIES.items():
    try:
        attempt()
        told[name] = 'it got through'
    except OSError as error:
        told[name] = str(error)
for one in (tcp, udp):
    one.close()
"""


def test_no_test_reaches_another_machine():
    found = {}
    exec(TRIES, found)
    assert len(found['told']) == 6
    assert [text for text in found['told'].values() if 'loopback alone' not in text] == []


def test_no_process_of_a_test_reaches_another_machine():
    told = json.loads(run_python(TRIES + 'print(json.dumps(told))'))
    assert len(told) == 6
    assert [text for text in told.values() if 'loopback alone' not in text] == []


def test_the_loopback_is_reached():
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        for host in ('127.0.0.1', 'localhost'):
            with socket.create_connection((host, server.getsockname()[1]), timeout=10):
                pass


NOTHING_IS_ASKED = """
import sys
asked = []
sys.addaudithook(
    lambda event, arguments: asked.append((event, repr(arguments)[:100]))
    if event.startswith(('socket.', 'urllib.', 'http.', 'ftplib.')) else None
)
import numpy as np
import astrodenoise
from astrodenoise import denoise, measure_noise
frame = np.random.default_rng(0).normal(100, 5, (96, 96))
denoise(frame, tile_size=128)
measure_noise(frame)
from astrodenoise.cli import main
assert main(['models']) == 0
assert main(['models', 'mono']) == 0
assert main(['demo', '-o', sys.argv[1]]) == 0
assert 'torch' in sys.modules
print()
print([one for one in asked if one[0] not in ('socket.gethostname', 'socket.__new__')])
"""


def test_import_denoise_models_and_demo_ask_for_no_connection(tmp_path):
    output = run_python(NOTHING_IS_ASKED, str(tmp_path / 'demo'))
    assert output.splitlines()[-1] == '[]'
    assert list((tmp_path / 'demo').glob('*.fits'))


OPENERS = {
    'aiohttp', 'astropy.utils.data', 'fsspec', 'ftplib', 'http', 'httpx', 'huggingface_hub',
    'pooch', 'requests', 'smtplib', 'ssl', 'torch.hub', 'urllib', 'urllib3', 'webbrowser',
}  # fmt: skip
CALLS = {'create_connection', 'download_file', 'getaddrinfo', 'load_state_dict_from_url', 'urlopen'}


def openers_of(source):
    """Names of what opens addresses that Python source imports or calls."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
        elif isinstance(node, ast.Attribute):
            names |= {ast.unparse(node), *(CALLS & {node.attr})}
    parts = (name.split('.') for name in names if name)
    within = {'.'.join(one[:n]) for one in parts for n in range(1, len(one) + 1)}
    return sorted(within & (OPENERS | CALLS))


def test_the_source_names_no_opener_of_addresses():
    files = sorted(Path(astrodenoise.__file__).parent.rglob('*.py'))
    assert len(files) > 50
    found = {path.name: openers_of(path.read_text(encoding='utf-8')) for path in files}
    assert {name: openers for name, openers in found.items() if openers} == {}


@pytest.mark.parametrize(
    'source',
    [
        'import urllib.request', 'from urllib import request', 'import requests as r',
        'torch.hub.load("a", "b")', 'from astropy.utils import data', 'opener.urlopen("x")',
        'from astropy.utils.data import download_file',
    ],
)  # fmt: skip
def test_an_opener_of_addresses_would_be_found(source):
    assert openers_of(source)


def test_processes_inherit_the_guard():
    first = os.environ['PYTHONPATH'].split(os.pathsep)[0]
    assert (Path(first) / 'sitecustomize.py').is_file()


@pytest.mark.parametrize(
    ('host', 'local'),
    [
        ('127.0.0.1', True), ('127.1.2.3', True), ('localhost', True), ('::1', True),
        (b'::1', True), (None, True), ('', True), ('1270.example.org', False),
        ('192.168.0.1', False),
        ('localhost.example.org', False), ('2001:db8::1', False),
    ],
)  # fmt: skip
def test_what_is_this_machine(host, local):
    import loopback

    assert loopback.is_local(host) is local
