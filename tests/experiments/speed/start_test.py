"""Tests ../../../experiments/speed/start.py: what a start is, and what is printed."""

import pytest

from experiments.documented.recorded import rows
from experiments.speed import start


def test_a_start_is_over_with_a_line_or_with_its_process():
  whole = start.started(['--help'], code=1)
  line = start.started(['--help'], line='flags:')
  for one in (whole, line):
    assert 0 < one.cpu and 0 < one.seconds
  with pytest.raises(RuntimeError, match='--help ended with exit code 1'):
    start.started(['--help'], line='no such line')
  with pytest.raises(RuntimeError, match='--mode=nothing ended with exit code 1'):
    start.started(['--mode=nothing'])


def test_every_kind_is_started_by_turns_and_the_cache_is_warm_once(monkeypatch):
  calls = []

  def started(arguments, env=None, line='', code=0):
    calls.append((arguments, env, line))
    return start.Taken(float(len(calls)), 0.5)

  monkeypatch.setattr(start, 'started', started)
  options = start.Options(flags='--config.train.steps=20', repeats=3)
  found = {one['figure']: one for one in start.starts(options)}
  assert list(found) == list(start.figures(options).values())
  first = next(iter(found.values()))
  assert (first['value'], first['least'], first['most']) == (5, 1, 9)
  assert first['repeats'] == 3 and first['cpu_seconds'] == 0.5 and first['processor']
  caches = [env and env['XDG_CACHE_HOME'] for _, env, _ in calls]
  for turn in range(3):
    help, empty, plan, warm = caches[4 * turn : 4 * turn + 4]
    assert help is None and empty == plan == warm
    assert '--dry_run' in calls[4 * turn + 2][0]
  assert calls[1][1]['JAX_COMPILATION_CACHE_DIR'].startswith(caches[1])
  assert len(set(caches)) == 1 + 3
  workdirs = [x[-1] for x, _, _ in calls if x[-1].startswith('--workdir')]
  assert len(set(workdirs)) == len(workdirs) == 6
  assert [line for _, _, line in calls[:4]] == ['', start.FIRST, '', start.FIRST]


def test_the_newest_row_of_every_processor_is_printed():
  made = [one for one in rows('speed.start') if 'source' not in one]
  newest = {(one['figure'], one['processor'], str(one['options'])): one for one in made}
  lines = start.table(start.EXPERIMENT.run()).splitlines()[2:]
  assert len(lines) == len(newest) > 8
  for one, line in zip(newest.values(), lines, strict=True):
    cells = [cell.strip() for cell in line.strip('|').split('|')]
    assert cells[0] == one['figure'] and cells[1] == f'{one["value"]:.1f}'
    assert cells[4:] == [str(one['repeats']), one['processor']]
