"""Tests ../../adapad_jax/training/summary.py: what a plan says of a run."""

import jax
import pytest
from flax import nnx

from adapad_jax.adapters.locate import linears
from adapad_jax.methods import METHODS
from adapad_jax.training import finetune_config, make_plan
from adapad_jax.training.summary import describe
from tests import tiny


@pytest.mark.parametrize('method', METHODS)
def test_the_plan_tells_what_is_trained(method, data):
  plan = make_plan(finetune_config(tiny.values(data, method=method)))
  line = next(x for x in describe(plan).splitlines() if x.startswith('trained: '))
  size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  modules = linears(plan.outlined.model)
  head = sum(size(modules[name]) for name in ('bert.pooler.dense', 'classifier'))
  one = sum(i + o for i, o in plan.shapes.values())
  # A triplet has a value beside its two directions.
  one += len(plan.shapes) * (method in ('adalora', 'increlora'))
  want = {
    'full': f'all {size(nnx.state(plan.outlined.model)):,} of the model, {head:,} of'
    ' them in the head',
    'head': f'{head:,} in the head, nothing else',
  }
  usual = f'{one:,} for one component in every module, {head:,} in the head'
  assert line == f'trained: {want.get(method, usual)}'


@pytest.mark.parametrize(
  ('steps', 'want'),
  [
    (9, '3 rounds of 3 x 16 rows'),
    (8, '2 rounds of 3 x 16 rows: 6 batches, not the 8 of train.steps, since'),
    (0, '3 rounds of 3 x 16 rows: 9 batches, not the 11 of train.epochs, since'),
  ],
)
def test_batches_that_fill_no_round_are_told(steps, want, data):
  adapad = {'local_steps': 3, 'budget': 12, 'start': 1, 'interval': 1}
  values = tiny.values(data, adapad=adapad)
  values['train'] |= {'steps': steps, 'epochs': 1.8}
  lines = describe(make_plan(finetune_config(values))).splitlines()
  (line,) = [x for x in lines if ' rounds of ' in x]
  assert line.partition(' rounds are whole')[0] == want
