"""Anyone's own classification or regression data, in files with named columns."""

import functools
import pathlib

from adapad_jax.tasks import metrics
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.files import folder_tables, read_table
from adapad_jax.tasks.hub import is_saved, saved_tables
from adapad_jax.tasks.labels import Classes, discover
from adapad_jax.tasks.reader import Read, Reader, Readers
from adapad_jax.tasks.source import Source

_SPLITS = ('train', 'validation', 'test')


def load(config: DataConfig) -> Source:
  """The source of the files that the configuration names.

  They are looked for when the first table is asked for: with `data.labels`, or for
  regression, not here.

  Raises:
    ValueError: if there is no training file, or a file or column is missing.
  """
  tables = Readers(functools.partial(_tables, config))
  regress = config.task == 'regression'
  return Source(
    name=config.task,
    tables=tables,
    text=config.text,
    label=config.label,
    classes=None if regress else _classes(config, tables),
    metrics=metrics.regression if regress else metrics.classification,
    metric='r2' if regress else 'accuracy',
    read=read_table,
  )


def _classes(config: DataConfig, tables: Readers) -> Classes:
  if config.labels:
    return Classes(tuple(str(label) for label in config.labels))
  return discover(tables['train'](), config.label)


def _tables(config: DataConfig) -> dict[str, Read]:
  found: dict[str, Read] = {}
  if config.path:
    folder = pathlib.Path(config.path).expanduser()
    if not folder.is_dir():
      raise ValueError(f'data.path={folder}: there is no such folder')
    read = saved_tables(folder) if is_saved(folder) else folder_tables(folder, _SPLITS)
    found |= read
  for name in _SPLITS:
    path = getattr(config, name)
    if path:
      found[name] = Reader.of(pathlib.Path(path).expanduser(), read_table)
  if 'train' not in found:
    raise ValueError(
      f'task {config.task!r} needs data.train=FILE, or data.path=FOLDER with a file'
      ' such as train.csv'
    )
  return found
