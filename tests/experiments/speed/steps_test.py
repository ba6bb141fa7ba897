"""Tests ../../../experiments/speed, steps and turns: what is timed and kept."""

import dataclasses

import numpy as np
import pytest

from experiments import timing
from experiments.harness import main, missing
from experiments.results import row, stamped
from experiments.speed import steps, turns
from experiments.speed.case import Case

SMALL = ['--models=MiniLM', '--rows=16', '--length=64', '--dtype=float32']
FOUND = dict.fromkeys(('step_ms', 'tokens_per_second', 'peak_gib', 'first_step_s'), 2.0)
FOUND |= {'device': 'cpu', 'peak_of': 'process', 'losses': [1.0]}
FOUND |= {'model_tflops_per_second': 1.0, 'model_flop_utilisation': None}
# In this process, where what is timed can be replaced.
STEPS = dataclasses.replace(steps.EXPERIMENT, own_process=False)


@pytest.fixture(autouse=True)
def device(monkeypatch):
  monkeypatch.setattr(timing, 'device', lambda: 'cpu')


@pytest.fixture
def timed(monkeypatch):
  """The cases that were timed; PEFT's take twice as long."""
  ran = []

  def time_it(case):
    ran.append(case)
    return FOUND | {'step_ms': 4.0 if case.method == 'peft' else 2.0}

  monkeypatch.setattr(steps, 'timed', time_it)
  return ran


def test_unknown_method_is_refused():
  with pytest.raises(ValueError, match="unknown method 'spilt'"):
    Case(method='spilt')


def test_every_case_has_a_name_of_its_own():
  run = steps.EXPERIMENT.run()
  names = [case.name for case in steps.cases(run)]
  assert len(set(names)) == len(names) == 14
  for sides, count in (('methods', 12), ('devices', 3), ('memory', 3)):
    names = [pair.name for pair in turns.cases(turns.EXPERIMENT.run(sides=sides))]
    assert len(set(names)) == len(names) == count


def test_what_is_recorded_is_not_timed_again(tmp_path, timed):
  flags = [*SMALL, '--sweep=sizes', f'--out={tmp_path}']
  main(STEPS, [*flags, '--only=r=8'])
  ran = [(case.method, case.rank) for case in timed]
  assert ran == [('split', 8), ('replicate', 8)]
  main(STEPS, flags)
  assert len(timed) == len(set(timed)) == 12
  assert (tmp_path / 'steps.png').is_file()
  methods = steps.EXPERIMENT.run(tmp_path, models=('MiniLM',), dtype='float32')
  assert len(missing(STEPS, methods)) == 10, 'another figure of the same cases'


def test_a_step_stands_beside_lora_of_either_kind(tmp_path, timed):
  main(STEPS, [*SMALL, f'--out={tmp_path}'])
  rows = steps.EXPERIMENT.run(tmp_path).results.rows()
  ratios = {one['figure']: one['value'] for one in rows if 'beside' in one['figure']}
  base = 'of MiniLM, 16 x 64 tokens, float32: time beside'
  assert ratios[f'split r=4 step {base} peft r=4'] == 0.5
  assert ratios[f'split r=4 step {base} lora r=4'] == 1.0
  assert ratios[f'lora r=4 step {base} peft r=4'] == 0.5


def test_turns_are_compared_in_pairs(tmp_path, monkeypatch):
  ran = []

  def call(function, case, env=None):
    ran.append((function.__name__, case.devices, env))
    kept = env == turns.KEPT
    slow = 10.0 if len(ran) in (3, 4) else 1.0  # Something else runs in one turn.
    ms = slow * (6.0 if kept or case.devices == 2 else 8.0)
    return FOUND | {'step_ms': ms, 'peak_gib': 3.0 if kept else 1.0}

  monkeypatch.setattr(turns.processes, 'call', call)
  flags = [*SMALL, '--repeats=3', f'--out={tmp_path}']
  main(turns.EXPERIMENT, [*flags, '--sides=memory', '--only=split'])
  assert [env for _, _, env in ran] == [turns.KEPT, turns.FREED] * 6
  ran.clear()
  for _ in range(2):
    main(turns.EXPERIMENT, [*flags, '--sides=devices', '--only=along data'])
    assert [devices for _, devices, _ in ran] == [1, 2] * 3
  short, long, data = turns.EXPERIMENT.run(tmp_path).results.rows()
  assert (short['value'], short['kept_peak_gib']) == (0.75, 3.0)
  assert '256 tokens' in long['figure']
  assert data['value'] == pytest.approx(8 / 6) and data['unit'] == 'times as fast'
  np.testing.assert_allclose(data['one_ms'], [8.0, 80.0, 8.0])


def test_a_recorded_pair_is_known_by_its_device(tmp_path, monkeypatch):
  run = turns.EXPERIMENT.run(tmp_path)
  [pair, *rest] = turns.cases(run)
  run.results.keep([stamped(row(pair.name, 1.0, '', device='cpu'))])
  assert missing(turns.EXPERIMENT, run) == rest
  monkeypatch.setattr(timing, 'device', lambda: 'another card')
  assert missing(turns.EXPERIMENT, run) == [pair, *rest]
