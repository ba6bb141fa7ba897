"""Tests ../../../experiments/glue/starts.py: what runs are, scores, the table."""

import dataclasses
import pathlib

import numpy as np
import pytest
import sklearn.metrics

from experiments.glue import starts
from experiments.results import row, stamped


def run_of(folder, rows=(), **options):
  run = starts.EXPERIMENT.run(folder, data='d', **options)
  run.results.keep(map(stamped, rows))
  return run


@pytest.mark.parametrize('method', ['adapad', 'lora'])
@pytest.mark.parametrize('start', starts.STARTS)
def test_runs_differ_in_their_start_alone(tmp_path, method, start):
  run = run_of(tmp_path, methods=(method,), starts=(start,), seeds=(5,))
  (case,) = starts.cases(run)
  config = starts.config_for(case, pathlib.Path('d'))
  assert config.data.path == 'd/CoLA' and config.data.holdout == 0.2
  assert config.seed == 5 and config.train.steps == 802
  assert config.optimizer.learning_rate == 1e-3
  found = config.settings.gradient_batches, config.train.head_steps
  assert found == starts.STARTS[start]


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
  loss, auc, rows = starts.scores(Saved({'logits_BC': logits_NC}, {'label_B': label_N}))
  p_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
  assert loss == pytest.approx(sklearn.metrics.log_loss(label_N, p_NC))
  one, zero = logits_NC[label_N == 1], logits_NC[label_N == 0]
  margin = lambda x: x[:, 1] - x[:, 0]
  above = margin(one)[:, None] > margin(zero)[None]
  assert auc == pytest.approx(above.mean()) and rows == 50


def test_values_are_scored_by_squared_error():
  saved = Saved({'value_B': np.array([1.0, 3.0])}, {'label_B': np.array([1.0, 1.0])})
  assert starts.scores(saved) == (2.0, None, 2)


def test_the_table_pairs_seeds(tmp_path):
  def made(start, seed, loss):
    about = dict(task='cola', method='lora', steps=802, start=start, seed=seed)
    return row('held-out loss', loss, 'nats a row', auc=0.7, score=0.3, **about)

  rows = [made('drawn', 1, 0.6), made('drawn', 2, 0.5), made('gradient', 1, 0.4)]
  lines = starts.table(run_of(tmp_path, rows)).splitlines()
  assert lines[2] == '| cola | lora | drawn | 2 | 0.5500 | 0.7000 | 0.3000 |  |'
  assert lines[3].endswith('| gradient | 1 | 0.4000 | 0.7000 | 0.3000 | -0.2000 |')
