"""Tests ../../adapad_jax/tasks/cuts.py: what a part held out makes of the splits."""

import pytest

from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.cuts import Cuts, cut_tables
from adapad_jax.tasks.table import Table


def readers(**rows):
  of = lambda name, count: Table({'x': [f'{name}{i}' for i in range(count)]}, name)
  return {name: lambda n=name, c=count: of(n, c) for name, count in rows.items()}


@pytest.mark.parametrize(
  ('rows', 'found'),
  [
    ({'train': 20, 'validation': 3, 'test': 4}, {'dev': 'validation'}),
    (
      {'train': 20, 'validation_matched': 3, 'validation_mm': 2},
      {'dev_matched': 'validation_matched', 'dev_mm': 'validation_mm'},
    ),
    ({'train': 20, 'dev': 5}, {'dev': 'dev'}),
    (
      {'train': 20, 'validation': 3, 'dev': 5},
      {'source_validation': 'validation', 'dev': 'dev'},
    ),
  ],
)
def test_every_split_of_the_source_is_kept_under_a_name_of_its_own(rows, found):
  cuts = cut_tables('t', readers(**rows), None, DataConfig(holdout=0.2))
  assert set(cuts) == {'train', 'validation', *found}
  assert len(cuts['train']) == 16 and len(cuts['validation']) == 4
  for name, source in found.items():
    table = cuts[name]
    assert table['x'][0] == f'{source}0' and len(table) == rows[source]


def test_without_a_part_held_out_splits_are_those_of_the_source():
  cuts = Cuts(readers(train=5, validation=2, dev=3, test=1), None, DataConfig())
  assert {name: len(cuts[name]) for name in cuts} == {
    'train': 5, 'validation': 2, 'dev': 3}  # fmt: skip
