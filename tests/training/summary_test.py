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


def test_labels_far_from_what_a_head_learns_are_noted(data, tmp_path):
  tiny_rows = lambda scale: (
    'text,label\n' + ''.join(f'good film,{scale * i}\n' for i in range(40))
  )
  for scale, is_noted in ((1000, True), (0.1, False)):
    (tmp_path / 'train.csv').write_text(tiny_rows(scale))
    (tmp_path / 'dev.csv').write_text(tiny_rows(scale) + 'poor plot,1\n')
    values = tiny.values(data)
    values['data'] |= {'task': 'regression', 'path': str(tmp_path)}
    said = describe(make_plan(finetune_config(values)))
    assert ('note: labels have a mean of 1.95e+04 and' in said) == is_noted


def test_validating_on_what_is_trained_on_is_noted(data, tmp_path):
  rows = 'text,label\n' + 'good film,1\npoor plot,0\n' * 20
  for name in ('train', 'dev'):
    (tmp_path / f'{name}.csv').write_text(rows)
  values = tiny.values(data)
  values['data'] |= {'path': str(tmp_path)}
  note = f'note: {tmp_path / "dev.csv"} is trained on too'
  assert note in describe(make_plan(finetune_config(values)))
  assert 'trained on too' not in describe(make_plan(finetune_config(tiny.values(data))))
