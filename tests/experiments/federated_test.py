"""Tests ../../experiments/federated: that every run can be run, and is run once."""

import dataclasses

import pytest

from adapad_jax.deflation.feeding import make_feeding
from adapad_jax.training import finetune_config
from experiments.federated import sweeps
from experiments.record import record, recorded

MODULES, STEPS = 36, 150
CASES = sweeps.cases('rotten_tomatoes', STEPS, [0], sweeps.SWEEPS)


def test_sweeps_meet_in_one_centre():
  assert len(CASES) == len(set(CASES)) == 1 + sum(map(len, sweeps.SWEEPS.values())) - 2
  assert [case.feeding for case in CASES].count('split') == 1


@pytest.mark.parametrize('case', CASES)
def test_every_case_can_spend_its_budget_and_share_its_batch(case):
  config = finetune_config(sweeps.settings(case, ''))
  adapad, batch = config.settings, config.train.batch
  rounds = STEPS // adapad.local_steps
  adapad.resolve(MODULES, rounds, batch).check(MODULES, rounds)
  make_feeding(adapad, batch, rounds)


def test_what_is_recorded_is_not_run_again(tmp_path):
  for case in CASES[:3]:
    record(tmp_path, 'accuracy', 0.7, '', **dataclasses.asdict(case))
  assert sweeps.missing(tmp_path, CASES) == CASES[3:]
  longer = sweeps.cases('rotten_tomatoes', STEPS + 1, [0], sweeps.SWEEPS)
  assert sweeps.missing(tmp_path, longer) == longer
  sweeps.draw(tmp_path, recorded(tmp_path))
  assert (tmp_path / 'figure.png').is_file()
