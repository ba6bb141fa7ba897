"""Tests ../../../experiments/sft/screening.py: what variants change, and the table."""

import dataclasses

import pytest

from experiments.results import row, stamped
from experiments.sft import screening
from tests.experiments.sft.comparison_test import ABOUT


def run_of(folder, rows=(), **options):
  run = screening.EXPERIMENT.run(folder, model='m', data='d', **options)
  run.results.keep(map(stamped, rows))
  return run


def configs(folder):
  run = run_of(folder, seeds=(2,))
  return {
    case.variant: screening.config_of(run.options, case)
    for case in screening.cases(run)
  }


def test_a_variant_changes_what_it_names_and_nothing_else(tmp_path):
  found = configs(tmp_path)
  assert set(found) == set(screening.VARIANTS)
  recipe = found['recipe']
  assert (recipe.seed, recipe.data.holdout, recipe.data.validation) == (1002, 0.1, '')
  for name, config in found.items():
    same = dataclasses.replace(config, method='adapad', settings=recipe.settings)
    assert same == recipe, name
    changes = screening.VARIANTS[name]
    for field, value in changes.items():
      *_, last = field.split('.')
      where = config if last == 'method' else config.settings
      assert getattr(where, last) == value
    if config.method == 'adapad':
      changed = {field.split('.')[1] for field in changes}
      plain = {name: getattr(recipe.settings, name) for name in changed}
      assert dataclasses.replace(config.settings, **plain) == recipe.settings


def test_cases_go_seed_by_seed(tmp_path):
  run = run_of(tmp_path, seeds=(0, 1), variants=('recipe', 'LoRA of rank 2'))
  found = [(case.seed, case.variant) for case in screening.cases(run)]
  assert found == [
    (seed, name) for seed in (1000, 1001) for name in ('recipe', 'LoRA of rank 2')
  ]


@pytest.mark.parametrize('seeds', [2, 3])
def test_the_table_compares_seed_by_seed(tmp_path, seeds):
  about = {**ABOUT, 'task': 'gsm8k', 'rate': 4e-3}
  rows = [
    row('held-out loss', loss + seed, 'nats', variant=name, seed=seed, **about)
    for seed in range(seeds)
    for name, loss in (('recipe', 1.5), ('LoRA of rank 2', 1.25))
  ]
  lines = screening.table(run_of(tmp_path, rows)).splitlines()
  assert lines[2].startswith(f'| LoRA of rank 2 | {seeds} | {1.25 + (seeds - 1) / 2}')
  assert lines[3].startswith(f'| recipe | {seeds} |')
  assert lines[3].endswith('| +0.2500 [+0.2500, +0.2500] |')
  assert len(lines) == 4
