"""Tests ../../adapad_jax/tasks/reads.py: no setting is ignored in silence."""

import dataclasses

import pytest

from adapad_jax.tasks import reads
from adapad_jax.tasks.config import (
  ChatConfig,
  DataConfig,
  GenerationConfig,
  QaConfig,
)
from adapad_jax.tasks.load import READS, SOURCES, load_task, require_read

# Of every field another value than its default.
CHANGED = {
  'path': 'folder',
  'revision': 'v1',
  'subset': 'small',
  'train': 'a.csv',
  'validation': 'b.csv',
  'test': 'c.csv',
  'text': ('title',),
  'label': 'topic',
  'labels': ('a', 'b'),
  'max_length': 64,
  'max_train_rows': 9,
  'max_eval_rows': 9,
  'holdout': 0.1,
  'prompt': 'q',
  'completion': 'a',
  'messages': 'chat',
  'weights': (2.0,),
  'bad_rows': 'drop',
  'cache': 'folder',
  'qa': QaConfig(overlap=64),
  'chat': ChatConfig(loss='all'),
  'generation': GenerationConfig(samples=1),
}
INSIDE = {
  'qa': 'qa.overlap=64',
  'chat': "chat.loss='all'",
  'generation': 'generation.samples=1',
}


def test_every_field_is_tried():
  assert {'task', *CHANGED} == {field.name for field in dataclasses.fields(DataConfig)}
  unknown = set().union(*READS.values()) - set(CHANGED)
  assert not unknown


@pytest.mark.parametrize('name', CHANGED)
@pytest.mark.parametrize(
  'task', ['sst2', 'rotten_tomatoes', 'classification', 'regression', 'squad', 'sft']
)
def test_what_a_task_does_not_read_is_refused_by_name(task, name):
  config = DataConfig(task=task, **{name: CHANGED[name]})
  if name in {*READS[task], *reads.ROWS}:
    require_read(config)
    return
  said = INSIDE.get(name, f'{name}={CHANGED[name]!r}')
  with pytest.raises(ValueError) as refused:
    require_read(config)
  assert f'data.{said} is not read by task {task!r}; what it reads of' in str(
    refused.value
  )


class _Tokenizer:
  is_fast = True
  model_max_length = 512

  def num_special_tokens_to_add(self, pair=False):
    return 2


def test_a_task_of_ones_own_may_read_anything(monkeypatch):
  def source(config):
    raise KeyError(config.label)

  monkeypatch.setitem(SOURCES, 'mine', source)
  with pytest.raises(KeyError, match='topic'):
    config = DataConfig(task='mine', label='topic')
    require_read(config)
    load_task(config, tokenizer=_Tokenizer())


def test_every_task_says_what_it_reads():
  assert {*SOURCES} < {*READS}
