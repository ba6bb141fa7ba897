"""Loads a task by name."""

import difflib
from collections.abc import Callable
from typing import Any

from adapad_jax.tasks import glue, own_data, rotten_tomatoes, text_task
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.sft import load as sft
from adapad_jax.tasks.source import Source
from adapad_jax.tasks.squad import load as squad
from adapad_jax.tasks.task import Task
from adapad_jax.tasks.tokenise import check_length

SOURCES: dict[str, Callable[[DataConfig], Source]] = {
  **dict.fromkeys(glue.TASKS, glue.load),
  'rotten_tomatoes': rotten_tomatoes.load,
  'classification': own_data.load,
  'regression': own_data.load,
}


def load_task(
  config: DataConfig, tokenizer: Any, max_positions: int | None = None
) -> Task:
  """Reads a task's data and checks it; tokenises a split when it is first used.

  Args:
    config: the task and its data.
    tokenizer: a fast `transformers` tokenizer.
    max_positions: longest row that the model takes; None trusts the tokenizer.

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
  if config.task in squad.TASKS:
    return squad.build(config, tokenizer)
  if config.task in sft.TASKS:
    return sft.build(config, tokenizer)
  return text_task.build(SOURCES[config.task](config), config, tokenizer)
