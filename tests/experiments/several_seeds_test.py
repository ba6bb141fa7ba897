"""Tests ../../experiments/several_seeds.py against runs of one seed each."""

import numpy as np
import pytest

from adapad_jax.training import finetune_config, train
from experiments.several_seeds import train_seeds
from tests import tiny


def write_weights(folder):
  """Weights for a tiny model that has none: all seeds start from the same ones."""
  pytest.importorskip('torch', reason='writes the weights')
  import transformers

  config = transformers.AutoConfig.from_pretrained(folder, num_labels=2)
  transformers.BertModel(config).save_pretrained(folder)


@pytest.mark.parametrize('method', ['adapad', 'lora'])
def test_every_seed_comes_to_what_a_run_of_its_own_does(tmp_path, method):
  tiny.make_data(tmp_path)
  values = tiny.values(tmp_path) | {'method': method}
  write_weights(values['model']['source'])
  values['model'] = values['model'] | {'random_weights': False}
  # Few steps at a low rate: longer runs amplify the last bit of the first.
  values['train'] = values['train'] | {'evaluations': 1, 'steps': 14}
  values['adapad'] = values['adapad'] | {'start': 2, 'interval': 2}
  values['optimizer'] = {'rate': 5e-3}
  together = train_seeds(finetune_config(values), [3, 4])
  assert together.outcomes[3].prefixes != together.outcomes[4].prefixes
  for seed, outcome in together.outcomes.items():
    alone = train(finetune_config(values | {'seed': seed}), tmp_path / str(seed))
    assert outcome.metrics == pytest.approx(alone['last']['metrics'], abs=1e-6)
    np.testing.assert_allclose(outcome.prefixes, alone['prefixes'], atol=1e-6)
    assert outcome.rank_M == list(alone['ranks'].values())
    assert outcome.spectral_prefixes[-1] == pytest.approx(outcome.prefixes[-1])


def test_models_of_random_weights_are_refused(tmp_path):
  tiny.make_data(tmp_path)
  with pytest.raises(ValueError, match='model.random_weights'):
    train_seeds(finetune_config(tiny.values(tmp_path)), [0, 1])
