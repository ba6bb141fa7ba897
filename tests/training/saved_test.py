"""Tests ../../adapad_jax/training/saved.py on a tiny run."""

import csv

import numpy as np
import pytest

from adapad_jax import cut_to_rank, export, finetune_config, restore, train
from tests import tiny


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('saved')


@pytest.fixture(scope='module')
def result(folder):
  tiny.make_data(folder)
  return train(finetune_config(tiny.values(folder)), str(folder / 'run'))


@pytest.fixture(scope='module')
def saved(folder, result):
  return restore(str(folder / 'run'))


def test_it_evaluates_as_training_did_at_every_prefix(saved, result):
  assert saved.step == result['best']['step']
  assert saved.evaluate() == result['best']['metrics'] == saved.evaluate('validation')
  for rank in (1, 2, 3):
    assert saved.evaluate(max_rank=rank)['accuracy'] == result['prefixes'][rank]


def test_its_adapter_has_the_ranks_of_the_state(saved, result, folder):
  latest = restore(folder / 'run', 'latest')
  assert latest.adapter.ranks == result['ranks']
  assert saved.adapter.head.keys() == {'bert.pooler.dense', 'classifier'}
  assert max(cut_to_rank(saved.adapter, 1).ranks.values()) == 1


def test_predictions_of_rows_in_memory_are_those_of_the_file(saved, folder):
  with (folder / 'validation.csv').open() as file:
    rows = list(csv.DictReader(file))
  found = saved.predict([{'text': row['text']} for row in rows])
  logits_NC = saved.outputs(saved.plan.task.splits['validation'])['logits_BC']
  names = saved.plan.task.label_names
  assert [row['prediction'] for row in found] == [
    names[i] for i in np.argmax(logits_NC, axis=1)
  ]
  assert all(0.5 <= row['probability'] <= 1 for row in found)
  with pytest.raises(ValueError, match="no column 'text'"):
    saved.predict([{'txt': 'good'}])


def test_mistakes_are_named(saved, folder, tmp_path):
  with pytest.raises(ValueError, match='holds no run'):
    restore(tmp_path)
  with pytest.raises(ValueError, match="unknown split 'validaton'; .*did you mean"):
    saved.evaluate('validaton')
  with pytest.raises(ValueError, match="'pfet'; did you mean 'peft'"):
    export(folder / 'run', tmp_path / 'out', format='pfet')
