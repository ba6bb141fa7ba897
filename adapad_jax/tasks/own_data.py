"""Anyone's own classification or regression data, in files or on the hub."""

from collections.abc import Callable

from adapad_jax.hub import Repository
from adapad_jax.tasks import metrics
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.files import existing, folder_tables, read_table
from adapad_jax.tasks.hub import HubData, hub_data, is_saved, place_of, saved_tables
from adapad_jax.tasks.labels import Classes, discover
from adapad_jax.tasks.source import Source
from adapad_jax.tasks.table import Table

_SPLITS = ('train', 'validation', 'test')
# What authors of data sets call the rows to validate on.
_VALIDATION = ('validation', 'dev', 'valid', 'val', 'eval')


def load(config: DataConfig) -> Source:
  """The source of the files, or the data set, that the configuration names.

  Raises:
    ValueError: if there is no training data, or a file or column is missing.
  """
  data = _data(config)
  tables = data.tables | _files(config)
  if 'train' not in tables:
    raise ValueError(
      f'task {config.task!r} needs data.train=FILE, or data.path=FOLDER with a file'
      ' such as train.csv' + f'; {config.path} has {list(tables)}' * bool(config.path)
    )
  regress = config.task == 'regression'
  return Source(
    name=config.task,
    tables=tables,
    text=config.text,
    label=config.label,
    classes=None if regress else _classes(config, data, tables['train']),
    metrics=metrics.regression if regress else metrics.classification,
    metric='r2' if regress else 'accuracy',
    read=read_table,
    pin=data.pin,
  )


def _classes(config: DataConfig, data: HubData, train: Callable[[], Table]) -> Classes:
  if config.labels:
    return Classes(tuple(str(label) for label in config.labels))
  if config.label in data.names:
    return Classes(data.names[config.label])
  return discover(train(), config.label)


def _data(config: DataConfig) -> HubData:
  """What `data.path` holds; nothing if it is empty."""
  place = place_of(config)
  if isinstance(place, Repository):
    return _from_hub(place, config.subset)
  if place is None:
    return HubData({}, None, {})
  read = saved_tables(place) if is_saved(place) else folder_tables(place, _SPLITS)
  return HubData(read, None, {})


def _from_hub(repository: Repository, subset: str) -> HubData:
  instead = f'give a folder as data.path; there is none of the name {repository.name}'
  data = hub_data(repository, subset, instead)
  known = {name: data.tables[name] for name in _SPLITS if name in data.tables}
  held = next((name for name in _VALIDATION if name in data.tables), None)
  if held is not None:
    known['validation'] = data.tables[held]
  if 'train' not in known:
    raise ValueError(
      f"{repository} has no split 'train', which is what is trained on; it has"
      f' {list(data.tables)}'
    )
  return HubData(known, data.pin, data.names)


def _files(config: DataConfig) -> dict[str, Callable[[], Table]]:
  """The files that are named one by one."""
  found: dict[str, Callable[[], Table]] = {}
  for name in _SPLITS:
    path = getattr(config, name)
    if path:
      path = existing(path)
      found[name] = lambda path=path: read_table(path)
  return found
