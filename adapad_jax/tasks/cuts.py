"""Labelled tables of a task, cut to size as the configuration says."""

from collections.abc import Callable, Mapping

from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.table import Table, split_by_group, subset


def cut_tables(
  name: str,
  readers: Mapping[str, Callable[[], Table]],
  group: str | None,
  config: DataConfig,
) -> dict[str, Table]:
  """Reads every labelled table, holds a part out if asked to, and draws subsets.

  Args:
    name: the task's name, for messages.
    readers: readers by split; those named 'test...' are left alone.
    group: the column whose values never occur both in training and in held-out
      rows; None where rows stand alone.
    config: what to hold out and how much to keep.

  Raises:
    ValueError: if there is nothing to train on or to validate with.
  """
  tables = {
    split: read() for split, read in readers.items() if not split.startswith('test')
  }
  if not len(tables['train']):
    raise ValueError(f'{tables["train"].source}: the training data is empty')
  if config.holdout:
    tables = {
      split.replace('validation', 'dev'): table for split, table in tables.items()
    }
    train = tables['train']
    groups = train[group] if group else range(len(train))
    tables['train'], tables['validation'] = split_by_group(
      train, groups, config.holdout
    )
  elif 'validation' not in tables:
    raise ValueError(
      f'{name}: no validation data; give data.validation=FILE, or hold a part'
      ' of the training data out with e.g. data.holdout=0.1'
    )
  return {
    split: subset(
      table, config.max_train_rows if split == 'train' else config.max_eval_rows
    )
    for split, table in tables.items()
  }
