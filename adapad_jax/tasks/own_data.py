"""Anyone's own classification or regression data, in files with named columns."""

import pathlib
from collections.abc import Callable

from adapad_jax.tasks import metrics
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.files import existing, folder_tables, read_table
from adapad_jax.tasks.hub import is_saved, saved_tables
from adapad_jax.tasks.labels import Classes, discover
from adapad_jax.tasks.source import Source
from adapad_jax.tasks.table import Table

_SPLITS = ('train', 'validation', 'test')


def load(config: DataConfig) -> Source:
  """The source of the files that the configuration names.

  Raises:
    ValueError: if there is no training file, or a file or column is missing.
  """
  tables = _tables(config)
  if 'train' not in tables:
    raise ValueError(
      f'task {config.task!r} needs data.train=FILE, or data.path=FOLDER with a file'
      ' such as train.csv'
    )
  regress = config.task == 'regression'
  return Source(
    name=config.task,
    tables=tables,
    text=config.text,
    label=config.label,
    classes=None if regress else _classes(config, tables['train']),
    metrics=metrics.regression if regress else metrics.classification,
    metric='r2' if regress else 'accuracy',
    read=read_table,
  )


def _classes(config: DataConfig, train: Callable[[], Table]) -> Classes:
  if config.labels:
    return Classes(tuple(str(label) for label in config.labels))
  return discover(train(), config.label)


def _tables(config: DataConfig) -> dict[str, Callable[[], Table]]:
  found: dict[str, Callable[[], Table]] = {}
  if config.path:
    folder = pathlib.Path(config.path).expanduser()
    if not folder.is_dir():
      raise ValueError(f'data.path={folder}: there is no such folder')
    unnamed = [name for name in _SPLITS if not getattr(config, name)]
    read = saved_tables(folder) if is_saved(folder) else folder_tables(folder, unnamed)
    found |= read
  for name in _SPLITS:
    path = getattr(config, name)
    if path:
      path = existing(path)
      found[name] = lambda path=path: read_table(path)
  return found
