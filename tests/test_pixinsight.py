# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""The script for PixInsight, in node with stand-ins for PixInsight, driving the real command."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from astrodenoise import denoise
from helpers import ROOT

SCRIPT = ROOT / 'integrations' / 'pixinsight' / 'AstroDenoise.js'
RUN = ['run', None]  # the click on "Denoise"


@pytest.fixture(scope='module')
def node():
    command = shutil.which('node')
    if command is None:
        pytest.skip('scripts of PixInsight are JavaScript: install node, which runs them')
    return command


class Host:
    """PixInsight's stand-in, with folders of its own."""

    def __init__(self, node, folder):
        self.node, self.folder = node, folder
        for name in ('home', 'temp'):
            (folder / name).mkdir()

    def command(self, text, name='astro denoise'):
        """Make an executable; its path has a space."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\n{text}\n', encoding='utf-8')
        path.chmod(0o755)
        return str(path)

    def real(self):
        """Give the real command."""
        return self.command(f'cd "{ROOT}" && exec "{sys.executable}" -m astrodenoise.cli "$@"')

    def run(self, pixels=None, **scenario):
        scenario |= {
            'home': str(self.folder / 'home'),
            'temp': str(self.folder / 'temp'),
            'result': str(self.folder / 'result'),
        }
        if pixels is not None:
            planes = pixels.reshape(-1, *pixels.shape[-2:])
            planes.astype('<f4').tofile(self.folder / 'pixels')
            scenario['image'] = {
                'channels': len(planes),
                'height': planes.shape[1],
                'width': planes.shape[2],
                'file': str(self.folder / 'pixels'),
            }
        path = self.folder / 'scenario.json'
        path.write_text(json.dumps(scenario), encoding='utf-8')
        done = subprocess.run(
            [self.node, str(ROOT / 'tests' / 'pjsr_stubs.js'), str(SCRIPT), str(path)],
            env={**os.environ, 'LD_LIBRARY_PATH': '/nowhere'},  # as PixInsight has one
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        happened = json.loads(done.stdout)
        assert happened['left'] == []  # no temporary files, whatever happened
        assert happened['copies'] == 0  # nor windows
        assert happened['unchanged']
        return happened

    def result(self, shape):
        return np.fromfile(self.folder / 'result', '<f4').reshape(shape)


@pytest.fixture
def host(node, tmp_path):
    return Host(node, tmp_path)


def sky(rng, shape):
    rows, cols = np.mgrid[: shape[-2], : shape[-1]]
    star = 0.3 * np.exp(-((rows - 40) ** 2 + (cols - 50) ** 2) / 8)
    return (0.05 + star + rng.normal(0, 0.004, shape)).astype(np.float32)


def option(command, name):
    return command[command.index(name) + 1] if name in command else None


def test_colour_view_becomes_a_new_image(host, rng):
    pixels = sky(rng, (3, 96, 128))
    clicks = [['executable', host.real()], ['strength', 0.6], ['ownChroma', True], ['chroma', 1],
              ['model', 'fast'], RUN]  # fmt: skip
    happened = host.run(pixels, clicks=clicks)
    assert happened['critical'] == []
    (opened,) = happened['opened']
    expected = denoise(
        pixels, strength=0.6, strength_chroma=1.0, model='fast', channels='joint'
    )
    np.testing.assert_allclose(host.result(pixels.shape), np.clip(expected, 0, 1), atol=1e-6)
    assert opened['id'] == 'M51_denoised'
    assert opened['stf'] == [[0.01, 0.5, 1, 0, 1]]
    assert opened['solution'] == 'a plate solution'
    assert opened['values'] == {'Observation:Object:Name': ['M51', 1]}
    assert opened['shown']
    assert opened['asCopy']  # the temporary file is not its file
    assert not opened['within']
    keywords = {one['name']: one for one in opened['keywords']}
    assert keywords['OBJECT']['value'] == "'M51'"
    assert 'HISTORY' in keywords  # says what was done
    assert any('denoised.xisf' in line for line in happened['console'])


def test_mono_view_of_a_process_icon(host, rng):
    pixels = sky(rng, (96, 128))
    happened = host.run(
        pixels, target='view', settings={'AstroDenoise/executable': host.real()},
        parameters={'strength': 0.9, 'model': 'fast', 'ownChroma': 'true', 'chroma': 0.2},
    )  # fmt: skip
    assert happened['critical'] == []
    assert happened['dialogs'] == 0
    expected = denoise(pixels, strength=0.9, model='fast')
    np.testing.assert_allclose(host.result(pixels.shape), np.clip(expected, 0, 1), atol=1e-6)
    (command,) = happened['commands']
    assert option(command, '--channels') is None
    assert option(command, '--strength-chroma') is None


def test_what_is_set_is_remembered(host, rng):
    executable = host.command('exit 1')
    clicks = [['executable', f' {executable} '], ['strength', 0.5], ['model', 'fast'], RUN]
    first = host.run(sky(rng, (32, 32)), clicks=clicks)
    assert first['shown']['strength'] == 0.85
    second = host.run(sky(rng, (32, 32)), settings=first['settings'], clicks=[['quit', None]])
    assert second['shown'] == first['shown'] | {
        'strength': 0.5, 'executable': executable, 'model': 'fast',
    }  # fmt: skip
    assert second['commands'] == []


def test_strange_settings_are_mended(host, rng):
    happened = host.run(
        sky(rng, (32, 32)), clicks=[['quit', None]],
        settings={
            'AstroDenoise/strength': 7,
            'AstroDenoise/model': 'gone',
            'AstroDenoise/executable': ' ',
        },
    )  # fmt: skip
    assert happened['shown']['strength'] == 0.85
    assert happened['shown']['model'] == 'default'
    assert happened['shown']['executable'] == 'astrodenoise'


def test_the_command_is_found_where_uv_and_pipx_put_it(host, rng):
    folder = host.folder / 'home' / '.local' / 'bin'
    folder.mkdir(parents=True)
    (folder / 'astrodenoise').touch()
    happened = host.run(sky(rng, (32, 32)), clicks=[['quit', None]])
    assert happened['shown']['executable'] == str(folder / 'astrodenoise')


@pytest.mark.parametrize(
    ('clicks', 'channels', 'chroma'),
    [
        ([], 'joint', None),
        ([['ownChroma', True], ['chroma', 0.4]], 'joint', '0.4'),
        ([['ownChroma', True], ['joint', False]], 'separate', None),
    ],
)
def test_colour_options(host, rng, clicks, channels, chroma):
    clicks = [['executable', host.command('exit 1')], *clicks, RUN]
    happened = host.run(sky(rng, (3, 32, 32)), clicks=clicks)
    (command,) = happened['commands']
    assert option(command, '--channels') == channels
    assert option(command, '--strength-chroma') == chroma
    assert option(command, '--strength') == '0.85'
    assert happened['after']['chroma'] == (chroma is not None)


def test_a_mono_view_has_no_colour_controls(host, rng):
    happened = host.run(sky(rng, (32, 32)), clicks=[['quit', None]])
    assert not happened['shown']['chroma']
    assert not happened['shown']['ownChroma']


def test_a_process_icon_has_the_parameters(host, rng):
    clicks = [['strength', 0.3], ['instance', None], ['quit', None]]
    happened = host.run(sky(rng, (32, 32)), clicks=clicks)
    assert happened['instances'] == 1
    assert happened['parameters'] == {
        'strength': 0.3, 'chroma': 0.85, 'ownChroma': False, 'joint': True, 'model': 'default',
    }  # fmt: skip


def fails(host, said, happened):
    assert happened['opened'] == []
    (text,) = happened['boxes']
    assert said in text
    assert said in happened['critical'][0]


def test_no_image_is_told(host):
    fails(host, 'no image is open', host.run())


def test_a_missing_command_is_told(host, rng):
    clicks = [['executable', '/nowhere/astrodenoise'], RUN]
    fails(host, 'could not be started', host.run(sky(rng, (32, 32)), clicks=clicks))
    clicks = [['executable', 'C:/nowhere/astrodenoise.exe'], RUN]
    happened = host.run(sky(rng, (32, 32)), clicks=clicks, platform='Windows')
    fails(host, 'could not be started', happened)
    assert happened['commands'][0][0] == 'C:/nowhere/astrodenoise.exe'


def test_what_the_command_complains_of_is_told(host, rng):
    executable = host.command('echo "image.xisf: no noise <at all>" >&2; exit 1')
    happened = host.run(sky(rng, (32, 32)), clicks=[['executable', executable], RUN])
    fails(host, 'no noise &lt;at all&gt;', happened)


def test_warnings_of_the_command_are_shown(host, rng):
    text = 'echo "astrodenoise: image.xisf: warning: unlike" >&2; cp "$2" "$4"'
    clicks = [['executable', host.command(text)], RUN]
    happened = host.run(sky(rng, (32, 32)), clicks=clicks)
    assert happened['warnings'] == ['astrodenoise: image.xisf: warning: unlike']
    assert len(happened['opened']) == 1


def test_a_command_that_writes_nothing_is_told(host, rng):
    clicks = [['executable', host.command('exit 0')], RUN]
    fails(host, 'wrote no image', host.run(sky(rng, (32, 32)), clicks=clicks))


def test_a_full_disk_is_told(host, rng):
    happened = host.run(sky(rng, (32, 32)), clicks=[RUN], diskFull=True)
    fails(host, 'could not be written', happened)
    assert happened['commands'] == []


def test_an_alpha_channel_is_told(host, rng):
    fails(host, 'alpha', host.run(sky(rng, (4, 32, 32)), clicks=[RUN]))


def test_it_can_be_stopped(host, rng):
    clicks = [['executable', host.command('cp "$2" "$4"')], RUN]
    fails(host, 'stopped', host.run(sky(rng, (32, 32)), clicks=clicks, abort=True))


def test_the_libraries_of_pixinsight_are_not_those_of_python(host, rng):
    text = 'test -z "$LD_LIBRARY_PATH" || exit 1; cp "$2" "$4"'
    clicks = [['executable', host.command(text)], RUN]
    happened = host.run(sky(rng, (32, 32)), clicks=clicks)
    assert happened['boxes'] == []
    assert happened['commands'][0][:3] == ['/usr/bin/env', '-u', 'LD_LIBRARY_PATH']
