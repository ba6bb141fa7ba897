"""Loads a task by name."""

import dataclasses
import difflib
import pathlib
from collections.abc import Callable, Collection
from typing import Any

from adapad_jax.models.head import Head
from adapad_jax.tasks import (
  collector,
  glue,
  own_data,
  reads,
  rotten_tomatoes,
  text_task,
)
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.facts import Facts
from adapad_jax.tasks.predictions import writable_kind
from adapad_jax.tasks.sft import load as sft
from adapad_jax.tasks.source import Source
from adapad_jax.tasks.squad import load as squad
from adapad_jax.tasks.squad.answers import answer_files
from adapad_jax.tasks.task import Task
from adapad_jax.tasks.tokenise import check_length

SOURCES: dict[str, Callable[[DataConfig], Source]] = {
  **dict.fromkeys(glue.TASKS, glue.load),
  'rotten_tomatoes': rotten_tomatoes.load,
  'classification': own_data.load,
  'regression': own_data.load,
}
# Fields of `DataConfig` that a task reads beside `reads.ROWS`; of a task that is not
# here none is refused.
READS: dict[str, Collection[str]] = {
  **dict.fromkeys(glue.TASKS, reads.PLACE),
  'rotten_tomatoes': (),
  'classification': reads.CLASSIFICATION,
  'regression': reads.REGRESSION,
  **dict.fromkeys(squad.TASKS, reads.QUESTIONS),
  **dict.fromkeys(sft.TASKS, reads.CHATS),
}


@collector.paused()
def load_task(
  config: DataConfig,
  tokenizer: Any,
  max_positions: int | None = None,
  facts: Facts | None = None,
) -> Task:
  """Reads a task's data and checks it; tokenises a split when it is first used.

  With what a run has recorded of its data, nothing is read before it is asked for.

  Args:
    config: the task and its data.
    tokenizer: a fast `transformers` tokenizer.
    max_positions: longest row that the model takes; None trusts the tokenizer.
    facts: of a run that is opened again.

  Raises:
    ValueError: for an unknown task, a missing file or column, labels that do not
      fit, or rows longer than the model takes.
  """
  tasks = (*SOURCES, *squad.TASKS, *sft.TASKS)
  if config.task not in tasks:
    near = difflib.get_close_matches(config.task, tasks, n=1)
    hint = f'; did you mean {near[0]!r}?' if near else ''
    raise ValueError(f'unknown task {config.task!r}; choose from {sorted(tasks)}{hint}')
  check_length(tokenizer, config.max_length, max_positions)
  if facts is None:
    task = _build(config, tokenizer, max_positions)
    _require_used(config, task)
    return task
  if config.task in squad.TASKS:
    return squad.build(config, tokenizer, facts)
  if config.task in sft.TASKS:
    return sft.build(config, tokenizer, max_positions, facts)
  # With labels that are given no source looks for them in its data.
  known = dataclasses.replace(config, labels=facts.classes or ())
  return text_task.recall(SOURCES[config.task](known), config, tokenizer, facts)


def require_read(config: DataConfig) -> None:
  """Refuses a field that was set, and that the task does not read.

  Raises:
    ValueError: naming it, and what the task reads.
  """
  if config.task in READS:
    reads.require_read(config, READS[config.task])


def _build(config: DataConfig, tokenizer: Any, max_positions: int | None) -> Task:
  if config.task in squad.TASKS:
    return squad.build(config, tokenizer)
  if config.task in sft.TASKS:
    return sft.build(config, tokenizer, max_positions)
  if SOURCES[config.task] is own_data.load:
    own_data.require_columns_apart(config)
  return text_task.build(SOURCES[config.task](config), config, tokenizer)


def _require_used(config: DataConfig, task: Task) -> None:
  """Refuses what is said of a data set on the hub where the data are files."""
  for name in ('revision', 'subset'):
    value = getattr(config, name)
    if value and (task.facts is None or task.facts.hub is None):
      raise ValueError(
        f'data.{name}={value!r} is of a data set on the hub, but the data are files'
      )


def expected_head(config: DataConfig) -> Head:
  """The head of a task before its data are read: the kind, not the number of labels."""
  if config.task in squad.TASKS:
    return Head('lm' if config.qa.answer == 'generate' else 'span')
  if config.task in sft.TASKS:
    return Head('lm')
  return Head('classification')


def default_suffix(task: str) -> str:
  """Of the file that predictions go to if the user names none."""
  if task in sft.TASKS:
    return '.jsonl'
  return '.json' if task in squad.TASKS else '.tsv'


def prediction_files(task: str, path: pathlib.Path) -> list[pathlib.Path]:
  """The files that predictions of a task at a path are written to.

  Raises:
    ValueError: if its suffix names no format of theirs.
  """
  if task in squad.TASKS:
    return answer_files(path)
  writable_kind(path)
  return [path]
