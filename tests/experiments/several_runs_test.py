"""Tests ../../experiments/several_runs.py against single runs."""

import numpy as np
import pytest

from adapad_jax.training import finetune_config, train
from experiments.several_runs import Run, runs_of, train_runs
from tests import tiny


def write_weights(folder):
  """Weights for a tiny model that has none: all seeds start from the same ones."""
  torch = pytest.importorskip('torch', reason='writes the weights')
  import transformers

  torch.manual_seed(0)

  config = transformers.AutoConfig.from_pretrained(folder, num_labels=2)
  transformers.BertModel(config).save_pretrained(folder)


@pytest.mark.parametrize('method', ['adapad', 'adalora', 'eva', 'lora_one'])
def test_every_run_comes_to_what_it_does_alone(tmp_path, method):
  tiny.make_data(tmp_path)
  values = tiny.values(tmp_path) | {'method': method}
  write_weights(values['model']['source'])
  values['model'] = values['model'] | {'random_weights': False}
  values['train'] = values['train'] | {'evaluations': 1, 'steps': 14}
  # Four modules, so that a program is small; three are compiled.
  values['adapter'] = {'targets': ('query', 'value')}
  values['adapad'] = values['adapad'] | {'budget': 7, 'start': 2, 'interval': 2}
  runs = [Run(3, 0.2, 0.1), Run(4, 0.1, 0.2)]
  rule = {'rule': 'sgd'}
  given = values | {'optimizer': rule, 'head_optimizer': rule}
  together = train_runs(finetune_config(given), runs)
  first, second = together.outcomes
  assert (first.metrics, first.rank_M) != (second.metrics, second.rank_M)
  for run, outcome in zip(runs, together.outcomes, strict=True):
    # Adam would make whole steps of gradients that are zero but for rounding.
    own = {'seed': run.seed, 'optimizer': {'rule': 'sgd', 'learning_rate': run.rate}}
    own |= {'head_optimizer': {'rule': 'sgd', 'learning_rate': run.head_rate}}
    alone = train(finetune_config(values | own), tmp_path / str(run.seed))
    assert outcome.metrics == pytest.approx(alone['last']['metrics'], abs=1e-6)
    if outcome.prefixes:
      np.testing.assert_allclose(outcome.prefixes, alone['prefixes'], atol=1e-6)
      assert outcome.spectral_prefixes[-1] == pytest.approx(outcome.prefixes[-1])
    assert outcome.rank_M == list(alone['ranks'].values())


def test_a_run_that_is_not_finite_does_not_stop_the_others(tmp_path):
  tiny.make_data(tmp_path)
  values = tiny.values(tmp_path) | {'method': 'lora'}
  write_weights(values['model']['source'])
  values['model'] = values['model'] | {'random_weights': False}
  values['train'] = values['train'] | {'evaluations': 1, 'steps': 4}
  runs = [Run(3, float('nan'), 1e-2), Run(3, 1e-3, 1e-3)]
  trained = train_runs(finetune_config(values), runs, curves=False)
  assert trained.outcomes[0] is None
  assert trained.outcomes[1].metrics


def test_models_of_random_weights_are_refused(tmp_path):
  tiny.make_data(tmp_path)
  config = finetune_config(tiny.values(tmp_path))
  with pytest.raises(ValueError, match='model.random_weights'):
    train_runs(config, runs_of(config, [0, 1]))


def test_a_head_that_trains_first_is_refused(tmp_path):
  tiny.make_data(tmp_path)
  values = tiny.values(tmp_path)
  values['model'] = values['model'] | {'random_weights': False}
  values['train'] |= {'head_steps': 3}
  config = finetune_config(values)
  with pytest.raises(ValueError, match='train.head_steps'):
    train_runs(config, runs_of(config, [0, 1]))
