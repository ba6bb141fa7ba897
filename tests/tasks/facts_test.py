"""Tests ../../adapad_jax/tasks/facts.py: tasks as a run has recorded them."""

import dataclasses

import numpy as np
import pytest

from adapad_jax.settings import as_dict, build
from adapad_jax.tasks import DataConfig, load_task
from adapad_jax.tasks.config import QaConfig
from adapad_jax.tasks.facts import Facts, Unavailable
from tests.tasks.glue_test import write_official
from tests.tasks.squad.toy import write_toy


def squad(folder):
  train, held = write_toy(folder, unanswerable=True)
  return DataConfig(
    task='squad_v2',
    train=train,
    validation=held,
    max_length=128,
    qa=QaConfig(overlap=8),
  )


def official(name):
  def config(folder):
    write_official(folder, name)
    return DataConfig(task=name, path=str(folder), max_length=16)

  return config


CONFIGS = {'squad': squad, 'mnli': official('mnli'), 'stsb': official('stsb')}


@pytest.mark.parametrize('name', CONFIGS)
def test_a_task_is_the_same_from_its_facts_and_reads_what_it_read(
  name, tmp_path, tokenizer
):
  config = CONFIGS[name](tmp_path)
  task = load_task(config, tokenizer)
  facts = build(Facts, as_dict(task.facts))
  assert facts == task.facts
  again = load_task(config, tokenizer, facts=facts)
  for field in ('name', 'head', 'label_names', 'metric', 'facts'):
    assert getattr(again, field) == getattr(task, field)
  example = task.example('Said.')
  assert again.example('Said.') == example and set(example.values()) == {'Said.'}
  assert again.baseline.metrics == pytest.approx(task.baseline.metrics, nan_ok=True)
  assert list(again.splits) == list(task.splits)
  for split in task.splits:
    got, want = again.splits[split].columns, task.splits[split].columns
    assert got.keys() == want.keys()
    for column in want:
      np.testing.assert_array_equal(got[column], want[column])


@pytest.mark.parametrize('name', CONFIGS)
def test_without_its_files_a_task_is_whole_but_for_their_rows(
  name, tmp_path, tokenizer
):
  (tmp_path / 'data').mkdir()
  config = CONFIGS[name](tmp_path / 'data')
  task = load_task(config, tokenizer)
  (tmp_path / 'data').rename(tmp_path / 'elsewhere')
  again = load_task(config, tokenizer, facts=task.facts)
  assert again.baseline == task.baseline and again.head == task.head
  for split in task.splits:
    with pytest.raises(Unavailable, match='is not there any more'):
      again.splits[split]


def test_data_of_a_hub_are_told_by_their_number_of_rows(tmp_path, tokenizer):
  """They have no file whose bytes could be compared."""
  config = CONFIGS['stsb'](tmp_path)
  facts = load_task(config, tokenizer).facts
  then = dataclasses.replace(facts.sources['validation'], files=(), rows=77)
  facts = dataclasses.replace(facts, sources=facts.sources | {'validation': then})
  again = load_task(config, tokenizer, facts=facts)
  with pytest.raises(Unavailable, match='had 77 rows, .* now has 2'):
    again.splits['validation']
