"""Tests ../../adapad_jax/tasks/collector.py, and who reads without it."""

import gc

import pytest

from adapad_jax.tasks import DataConfig, collector, load_task
from adapad_jax.tasks.squad import load as squad
from adapad_jax.tasks.squad import windows
from tests.tasks.squad import toy


def test_the_collector_is_as_it_was_before():
  with collector.paused():
    assert not gc.isenabled()
    with collector.paused():
      pass
    assert not gc.isenabled()
  assert gc.isenabled()
  with pytest.raises(KeyError), collector.paused():
    raise KeyError
  assert gc.isenabled()


def test_data_are_checked_and_tokenised_without_it(tmp_path, tokenizer, monkeypatch):
  on = []

  def noting(function):
    return lambda *args, **kw: on.append(gc.isenabled()) or function(*args, **kw)

  for module, name in ((squad, 'check_questions'), (windows, 'encode_all')):
    monkeypatch.setattr(module, name, noting(getattr(module, name)))
  train, validation = toy.write_toy(tmp_path)
  config = DataConfig(task='squad', train=train, validation=validation, max_length=256)
  task = load_task(config, tokenizer)
  checks = len(on)
  assert len(task.splits['train'])
  assert len(on) > checks >= 2 and not any(on)
  assert gc.isenabled()
