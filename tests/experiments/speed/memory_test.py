"""Tests ../../../experiments/speed/memory.py: the runs that are measured."""

import dataclasses

import pytest

from adapad_jax.training import finetune_config, make_plan
from experiments.speed.memory import Case, settings, write_inputs


@pytest.mark.parametrize('change', [{}, {'method': 'lora'}, {'feeding': 'replicate'}])
def test_texts_fill_every_token_and_every_component_trains(tmp_path, change):
  case = dataclasses.replace(Case(rows=8, length=16, rank=2), **change)
  write_inputs(case, tmp_path)
  plan = make_plan(finetune_config(settings(case, tmp_path)))
  for split in plan.task.splits.values():
    assert len(split) == 16
    assert split.columns['mask_BL'].shape == (16, 16)
    assert split.columns['mask_BL'][:].all()
  if case.method == 'adapad':
    when, total = plan.method.timeline()[-1]
    assert total == 2 * len(plan.modules) and when < plan.method.rounds - 1
