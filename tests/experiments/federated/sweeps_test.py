"""Tests ../../../experiments/federated: that every run can be run, and is run once."""

import dataclasses

import pytest

from adapad_jax.deflation.feeding import make_feeding
from adapad_jax.training import finetune_config
from experiments.federated import sweeps
from experiments.harness import missing
from experiments.results import row, stamped

MODULES, STEPS = 36, 150
CASES = sweeps.cases(sweeps.EXPERIMENT.run(steps=STEPS))


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
  run = sweeps.EXPERIMENT.run(tmp_path, steps=STEPS)
  assert missing(sweeps.EXPERIMENT, run) == CASES
  rows = [
    row('accuracy', 0.7, '', **dataclasses.asdict(case), megabytes_sent=1.0)
    for case in CASES[:3]
  ]
  run.results.keep(map(stamped, rows))
  assert missing(sweeps.EXPERIMENT, run) == CASES[3:]
  longer = sweeps.EXPERIMENT.run(tmp_path, steps=STEPS + 1)
  assert len(missing(sweeps.EXPERIMENT, longer)) == len(CASES)
  assert sweeps.table(run).count('| 70.0 | 1.0 |') == 3
  sweeps.draw(run)
  assert (tmp_path / 'sweeps.png').is_file()
