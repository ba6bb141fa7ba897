"""Anyone's own classification or regression data, in files or on the hub."""

import functools
import pathlib
from collections.abc import Mapping

from adapad_jax.hub import Repository
from adapad_jax.tasks import metrics
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.files import folder_tables, ours, read_table
from adapad_jax.tasks.hub import hub_tables, is_saved, place_of, saved_tables
from adapad_jax.tasks.labels import Classes, discover
from adapad_jax.tasks.reader import Read, Reader, Readers, as_reader
from adapad_jax.tasks.source import Source

_SPLITS = ('train', 'validation', 'test')


def require_columns_apart(config: DataConfig) -> None:
  """Checks that no column is named twice by the texts and the label.

  Raises:
    ValueError: naming the settings, and the column.
  """
  texts = ','.join(config.text)
  if twice := {name for name in config.text if config.text.count(name) > 1}:
    raise ValueError(
      f'data.text={texts} names the column {min(twice)!r} twice; name two columns,'
      ' or one'
    )
  if config.label in config.text:
    raise ValueError(
      f'data.text={texts} and data.label={config.label} name the same column'
      f' {config.label!r}; a text and its label are in columns of their own'
    )


def load(config: DataConfig) -> Source:
  """The source of the files, or of the data set, that the configuration names.

  They are looked for when the first table is asked for: with `data.labels`, or for
  regression, not here.

  Raises:
    ValueError: if there are no training data, or a file or column is missing.
  """
  tables: Mapping[str, Read] = Readers(functools.partial(_tables, config))
  regress, classes = config.task == 'regression', None
  if not regress:
    classes, tables = _classes(config, tables)
  return Source(
    name=config.task,
    tables=tables,
    text=config.text,
    label=config.label,
    classes=classes,
    metrics=metrics.regression if regress else metrics.classification,
    metric='r2' if regress else 'accuracy',
    read=read_table,
  )


def _classes(
  config: DataConfig, tables: Mapping[str, Read]
) -> tuple[Classes, Mapping[str, Read]]:
  """The classes, and readers of which none reads again what was read for them."""
  if config.labels:
    return Classes(tuple(str(label) for label in config.labels)), tables
  train = as_reader(tables['train'])
  if config.label in train.names:
    return Classes(train.names[config.label]), tables
  table = train()
  return discover(table, config.label), {**tables, 'train': train.having(table)}


def _tables(config: DataConfig) -> dict[str, Read]:
  found: dict[str, Read] = {}
  place = place_of(config)
  if isinstance(place, Repository):
    found |= _from_hub(place, config.subset)
  elif place is not None and is_saved(place):
    found |= _named(saved_tables(place))
  elif place is not None:
    unnamed = [name for name in _SPLITS if not getattr(config, name)]
    found |= folder_tables(place, unnamed)
  for name in _SPLITS:
    path = getattr(config, name)
    if path:
      found[name] = Reader.of(pathlib.Path(path).expanduser(), read_table)
  if 'train' not in found:
    raise ValueError(
      f'task {config.task!r} needs data.train=FILE, or data.path=FOLDER with a file'
      f' such as train.csv{_instead(place)}'
    )
  return found


def _instead(place: pathlib.Path | Repository | None) -> str:
  """What a folder without training data holds, if it was saved by `datasets`."""
  if not isinstance(place, pathlib.Path):
    return ''
  if is_saved(place):
    return f'; {place} is a saved DatasetDict without a split of that name'
  if (place / 'state.json').is_file() and (place / 'dataset_info.json').is_file():
    return (
      f'; {place} is one saved Dataset: save DatasetDict(train=...) instead, so that'
      ' splits have names'
    )
  return ''


def _named(found: Mapping[str, Read]) -> dict[str, Read]:
  """The splits of a data set, the one to validate on under that name."""
  return {name: found[split] for split, name in ours(found).items()}


def _from_hub(repository: Repository, subset: str) -> dict[str, Read]:
  instead = f'give a folder as data.path; there is none of the name {repository.name}'
  found = hub_tables(repository, subset, instead)
  known = {name: one for name, one in _named(found).items() if name in _SPLITS}
  if 'train' not in known:
    raise ValueError(
      f"{repository} has no split 'train', which is what is trained on; it has"
      f' {list(found)}'
    )
  return known
