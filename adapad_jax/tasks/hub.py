"""Tables from the Hugging Face hub and from folders that `datasets` saved."""

import pathlib
from collections.abc import Callable
from typing import Any

from adapad_jax.tasks.reader import Reader
from adapad_jax.tasks.table import Table


def hub_tables(
  repo: str, name: str | None, instead: str
) -> dict[str, Callable[[], Table]]:
  """Readers of every split of a dataset on the hub, or in its local cache.

  Args:
    repo: e.g. 'nyu-mll/glue'.
    name: the configuration, e.g. 'cola'.
    instead: what a user without the hub can do, for the message.

  Raises:
    ValueError: if neither the hub nor the cache has it.
  """
  import datasets  # Takes seconds to import, and only the hub needs it.

  try:
    loaded = datasets.load_dataset(repo, name)
  except (OSError, RuntimeError) as error:  # ConnectionError is an OSError.
    reason = str(error).split('\n')[0]
    wanted = f'{repo} ({name})' if name else repo
    raise ValueError(
      f'cannot get {wanted} from the hub: {reason}. Without the hub, {instead}'
    ) from error
  return _tables(loaded, repo)


def saved_tables(folder: pathlib.Path) -> dict[str, Callable[[], Table]]:
  """Readers of every split of a folder that `DatasetDict.save_to_disk` wrote."""
  import datasets

  read = _tables(datasets.load_from_disk(str(folder)), str(folder))
  files = lambda split: tuple(sorted((folder / split).glob('*.arrow')))
  return {split: Reader(one, files(split)) for split, one in read.items()}


def is_saved(folder: pathlib.Path) -> bool:
  """Whether `DatasetDict.save_to_disk` wrote the folder."""
  return (folder / 'dataset_dict.json').is_file()


def _tables(loaded: Any, source: str) -> dict[str, Callable[[], Table]]:
  return {
    split: lambda split=split: _table(loaded[split], f'{source} [{split}]')
    for split in loaded
  }


def _table(dataset: Any, source: str) -> Table:
  """The columns of a dataset, with class numbers spelled as names; -1 is None."""
  columns = dataset.to_dict()
  for name, feature in dataset.features.items():
    names = getattr(feature, 'names', None)
    if names:
      columns[name] = [
        None if value is None or value < 0 else names[value] for value in columns[name]
      ]
  return Table(columns, source)
