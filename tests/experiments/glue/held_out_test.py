"""Tests ../../../experiments/glue/held_out.py: what runs are, scores, the table."""

import dataclasses
import pathlib

import numpy as np
import pytest
import sklearn.metrics

from experiments.glue import held_out
from experiments.results import row, stamped

SIZE = {'steps': 300, 'dtype': 'bfloat16'}


def run_of(folder, rows=(), **options):
  run = held_out.EXPERIMENT.run(folder, data='d', **options)
  run.results.keep(map(stamped, rows))
  return run


@pytest.mark.parametrize('variant', held_out.VARIANTS)
def test_runs_differ_in_their_method_and_what_is_changed_alone(tmp_path, variant):
  run = run_of(tmp_path, tasks=('cola',), variants=(variant,), seeds=(5,))
  (case,) = held_out.cases(run)
  config = held_out.config_for(case, pathlib.Path('d'))
  assert config.data.path == 'd/CoLA' and config.data.holdout == 0.2
  assert config.seed == 5 and config.train.batch == 32
  assert config.model.dtype == 'bfloat16'
  one = held_out.VARIANTS[variant]
  assert config.train.steps == (1200 if 'four times' in variant else 300)
  assert config.method == one.method
  changed = {name: getattr(config.settings, name) for name in one.changes}
  assert changed == one.changes
  assert config.train.head_steps == (30 if 'gradient' in variant else 0)


def test_runs_take_the_rate_of_the_lowest_loss_of_their_own_search(tmp_path):
  def tried(variant, rate, loss, task='cola'):
    about = dict(kind='tune', task=task, variant=variant, seed=2000, **SIZE)
    return row('held-out loss', loss, 'nats a row', rate=rate, **about)

  rows = [
    tried('recipe', 1e-3, 0.5),
    tried('recipe', 4e-3, 0.4),
    tried('recipe', 2e-3, 0.3, task='stsb'),
    tried('DyLoRA', 5e-4, 0.1),
  ]
  options = dict(variants=('recipe', 'DyLoRA', 'EVA'), seeds=(0, 1), tasks=('cola',))
  found = list(held_out.cases(run_of(tmp_path, rows, **options)))
  assert [case.rate for case in found] == 2 * [4e-3, 5e-4, 2e-3]
  assert [case.seed for case in found] == [0, 0, 0, 1, 1, 1]
  searched = run_of(tmp_path, tune=True, rates=(1e-3, 2e-3), **options)
  assert [(case.kind, case.seed) for case in held_out.cases(searched)] == 6 * [
    ('tune', held_out.TUNING_SEED)
  ]


@dataclasses.dataclass
class Saved:
  """A run whose outputs are known."""

  outputs_of: dict
  columns: dict

  @property
  def plan(self):
    return self

  @property
  def task(self):
    return self

  @property
  def splits(self):
    return {'validation': self}

  def outputs(self, split):
    return self.outputs_of


def test_classes_are_scored_by_cross_entropy_and_ranking():
  rng = np.random.default_rng(0)
  logits_NC, label_N = rng.normal(size=(50, 2)), rng.integers(0, 2, 50)
  loss, auc, rows = held_out.scores(
    Saved({'logits_BC': logits_NC}, {'label_B': label_N})
  )
  p_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
  assert loss == pytest.approx(sklearn.metrics.log_loss(label_N, p_NC))
  one, zero = logits_NC[label_N == 1], logits_NC[label_N == 0]
  margin = lambda x: x[:, 1] - x[:, 0]
  above = margin(one)[:, None] > margin(zero)[None]
  assert auc == pytest.approx(above.mean()) and rows == 50


def test_values_are_scored_by_squared_error():
  saved = Saved({'value_B': np.array([1.0, 3.0])}, {'label_B': np.array([1.0, 1.0])})
  assert held_out.scores(saved) == (2.0, None, 2)


def test_the_table_pairs_seeds(tmp_path):
  def made(variant, seed, loss, kind='run', rate=1e-3):
    about = dict(task='cola', kind=kind, variant=variant, seed=seed, **SIZE)
    more = dict(auc=0.7, score=0.3, rate=rate)
    return row('held-out loss', loss, 'nats a row', **about, **more)

  rows = [
    made('LoRA of rank 2', 1, 0.6),
    made('LoRA of rank 2', 2, 0.5),
    made('recipe', 1, 0.4, rate=2e-3),
    made('recipe', 2000, 0.9, 'tune', 4e-3),
  ]
  head, search, runs = held_out.table(run_of(tmp_path, rows)).split('\n\n')
  assert head == 'cola:'
  assert search.splitlines()[2:] == ['| recipe | 0.9000 |']
  assert runs.splitlines()[2:] == [
    '| LoRA of rank 2 | 0.001 | 2 | 0.5500 ± 0.0707 | 0.7000 | 0.3000 |  |',
    '| recipe | 0.002 | 1 | 0.4000 | 0.7000 | 0.3000 | -0.2000 |',
  ]
