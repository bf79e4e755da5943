# Licensed under a 3-clause BSD style license - see licenses/LICENSE.rst
"""Progress in pixels: what the bar shows, and what lines of JSON tell other programs."""

import io
import json
import sys

import numpy as np
import pytest
import tqdm
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from astrodenoise import denoise, removal
from astrodenoise.cli import main
from astrodenoise.manifest import Outcome
from astrodenoise.progress import PixelBar, counted_files, events_to, tell_event, warnings_in

FAST = ('--model', 'fast', '--tile-size', '64', '--precision', 'float32')


def run(*arguments):
    return main([str(argument) for argument in arguments])


class Clock:
    """Goes on by a second whenever it is looked at."""

    now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


@given(sizes=st.lists(st.integers(1, 9), max_size=30), area=st.integers(1, 10**12))
def test_tiles_share_out_all_pixels(sizes, area):
    shares = removal._shares([list(range(size)) for size in sizes], area)
    assert len(shares) == len(sizes)
    assert sum(shares) == (area if sizes else 0)
    for share, size in zip(shares, sizes, strict=True):
        assert abs(share - area * size / sum(sizes)) <= 1


@pytest.mark.parametrize('channels', [None, 'joint'])
def test_a_frame_counts_all_its_pixels(rng, channels):
    frame, seen = rng.normal(500, 9, (3, 150, 170)), []

    def bar(shares):
        assert len(shares) > 1
        seen.append(sum(shares))
        return iter(shares)

    denoise(frame, channels=channels, progress_bar=bar, tile_size=64, batch_size=2)
    assert seen == ([frame.size] if channels else 3 * [frame[0].size])


def test_events_have_rate_and_time_left():
    stream = io.StringIO()
    with events_to(stream):
        bar = PixelBar('a.fits', clock=Clock())
        bar.expect(10_000_000)
        assert list(bar([1_000_000, 3_000_000])) == [1_000_000, 3_000_000]
        list(bar([2_000_000, 5_000_000]))  # a part with more than was asked for
        bar.close()
    events = lines_of(stream.getvalue())
    assert [set(event) for event in events] == 4 * [
        {'event', 'file', 'unit', 'done', 'of', 'mpx_per_s', 'eta_s'}
    ]
    assert [event['done'] for event in events] == [1, 4, 6, 10]
    whole = {(event['file'], event['unit'], event['of']) for event in events}
    assert whole == {('a.fits', 'Mpx', 10)}
    assert [event['mpx_per_s'] for event in events] == [1, 2, 2, 2.5]
    assert [event['eta_s'] for event in events] == [9, 3, 2, 0]


def test_events_are_not_too_many():
    stream, clock = io.StringIO(), Clock()
    clock.now = 0
    with events_to(stream):
        bar = PixelBar('a.fits', clock=lambda: clock() / 1000)
        bar.expect(1000)
        list(bar([1] * 1000))
    events = lines_of(stream.getvalue())
    assert len(events) == 6  # in a second, the first and the last of them
    assert (events[0]['done'], events[-1]['done']) == (0, 0.001)


def test_the_bar_shows_pixels(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(screen, 'isatty', lambda: True, raising=False)
    monkeypatch.setattr(sys, 'stderr', screen)
    bar = PixelBar('folder/a.fits', 'a.fits')
    bar.expect(24_000_000)
    list(bar([6_000_000]))
    bar._bar.refresh()
    bar.close()
    shown = screen.getvalue().split('\r')[-3]
    assert shown.startswith('a.fits:  25%|')
    assert ' 6.0/24.0 Mpx [00:' in shown
    assert 'Mpx/s]' in shown


def test_files_of_workers_have_a_rate(monkeypatch):
    stream = io.StringIO()
    outcomes = [Outcome('a', 'b', 'done', megapixels=6.0), Outcome('c', 'd', 'failed')]
    with events_to(stream):
        assert list(counted_files(outcomes, 2, quiet=True)) == outcomes
        assert not stream.getvalue()
        assert list(counted_files(outcomes, 2, clock=Clock())) == outcomes
    assert lines_of(stream.getvalue()) == [
        {'event': 'progress', 'file': None, 'unit': 'file', 'done': 1, 'of': 2, 'mpx_per_s': 6.0,
         'eta_s': 1.0},
        {'event': 'progress', 'file': None, 'unit': 'file', 'done': 2, 'of': 2, 'mpx_per_s': 3.0,
         'eta_s': 0.0},
    ]  # fmt: skip


def test_without_tqdm_there_is_no_bar(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tqdm', None)
    bar = PixelBar('a.fits')
    bar.expect(10)
    assert list(bar([4, 6])) == [4, 6]
    bar.close()
    assert list(counted_files([], 0)) == []


def test_nothing_is_told_unasked(capsys):
    tell_event('start', file='a')
    with events_to(None):
        tell_event('start', file='a')
    assert capsys.readouterr() == ('', '')


def test_warnings_of_workers_are_found():
    said = 'astrodenoise: a: b.fits: warning: it: is old\nastrodenoise: c.fits: cannot be read\n'
    assert warnings_in(said) == [('a: b.fits', 'it: is old')]
    assert warnings_in('') == []


@pytest.fixture
def night(tmp_path, rng):
    """Give three files, of which one was denoised before and one is damaged."""
    y, x = np.mgrid[:150, :130]
    for name in ('a.fits', 'b.fits'):
        data = rng.normal(500, 10, y.shape) + 300 * np.exp(-((y - 60) ** 2 + (x - 70) ** 2) / 8)
        fits.PrimaryHDU(data.astype('f4')).writeto(tmp_path / name)
    with fits.open(tmp_path / 'b.fits', mode='update') as hdus:
        hdus[0].header['DENOISED'] = True
    (tmp_path / 'c.fits').write_bytes(b'SIMPLE  =')
    return [tmp_path / f'{name}.fits' for name in 'abc']


def check_lines(text, night, out):
    """Check that lines of JSON are complete; give them by event."""
    events = lines_of(text)
    assert all('event' in event for event in events)
    assert events[-1] == {'event': 'end', 'done': 2, 'skipped': 0, 'failed': 1, 'status': 1}
    by_event = {}
    for event in events:
        by_event.setdefault(event['event'], []).append(event)
    done = {event['file']: event for event in by_event['done']}
    assert set(done) == {str(night[0]), str(night[1])}
    one = done[str(night[0])]
    assert one['output'] == str(out / 'a.fits')
    assert one['megapixels'] == pytest.approx(0.0195)
    assert one['seconds'] > 0
    assert one['mpx_per_s'] == pytest.approx(one['megapixels'] / one['seconds'], abs=1e-3)
    (image,) = one['images']
    (plane,) = image['planes']
    assert 9 < plane['sigma'] < 11
    assert (plane['noise'], plane['limited']) == ('measured', 0)
    (failed,) = by_event['failed']
    assert failed['file'] == str(night[2])
    assert 'cannot be read' in failed['reason']
    (warning,) = by_event['warning']
    assert warning['file'] == str(night[1])
    assert 'was denoised before' in warning['message']
    return by_event


def test_lines_of_a_run(night, tmp_path, capsys):
    out = tmp_path / 'out'
    assert run('denoise', *night, '-o', f'{out}/', '--json', *FAST) == 1
    told = capsys.readouterr()
    by_event = check_lines(told.out, night, out)
    assert [event['file'] for event in by_event['start']] == [str(name) for name in night]
    for name in night[:2]:
        steps = [event for event in by_event['progress'] if event['file'] == str(name)]
        assert steps[-1]['done'] == steps[-1]['of'] == 0.0195
        assert [step['done'] for step in steps] == sorted(step['done'] for step in steps)
    # what people read is on stderr
    assert f'{night[0]} -> {out / "a.fits"}' in told.err
    assert f'{night[2]}: cannot be read' in told.err
    assert '1 of 3 files failed' in told.err
    # a second run skips, and quiet leaves progress out
    assert run('denoise', night[0], '-o', out / 'a.fits', '--resume', '--json', '-q', *FAST) == 0
    start, skipped, end = lines_of(capsys.readouterr().out)
    assert start == {'event': 'start', 'file': str(night[0]), 'output': str(out / 'a.fits')}
    assert skipped['event'] == 'skipped'
    assert skipped['note'].endswith('exists with the same settings')
    assert end['skipped'] == 1


def test_lines_of_workers(night, tmp_path, capfd):
    pytest.importorskip('distributed')
    out = tmp_path / 'out'
    assert run('denoise', *night, '-o', f'{out}/', '--json', '--workers', 2, *FAST) == 1
    by_event = check_lines(capfd.readouterr().out, night, out)
    assert [event['done'] for event in by_event['progress']] == [1, 2, 3]
    assert {event['unit'] for event in by_event['progress']} == {'file'}
    assert 'start' not in by_event


def test_an_interrupt_ends_the_lines(night, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr('astrodenoise.batch.denoise_image', interrupt)
    assert run('denoise', night[0], '-o', tmp_path / 'out.fits', '--json') == 130
    events = lines_of(capsys.readouterr().out)
    assert [event['event'] for event in events] == ['start', 'end']
    assert events[-1]['status'] == 130


def test_wrong_usage_has_no_lines(night, capsys):
    assert run('denoise', night[0], '-o', night[0], '--json') == 2
    assert capsys.readouterr().out == ''


def test_the_bar_is_that_of_a_file(night, tmp_path, monkeypatch):
    made = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append({**options, 'on stderr': options['file'] is sys.stderr})

    monkeypatch.setattr(tqdm, 'tqdm', Bar)
    assert run('denoise', night[0], '-o', tmp_path / 'out.fits', *FAST) == 0
    (bar,) = made
    assert (bar['desc'], bar['unit'], bar['total']) == ('a.fits', 'Mpx', 0.0195)
    assert bar['on stderr']
    made.clear()
    assert run('denoise', night[0], '-o', tmp_path / 'quiet.fits', '-q', *FAST) == 0
    assert not made
