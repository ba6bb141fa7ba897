"""Tables from the Hugging Face hub and from folders that `datasets` saved."""

import pathlib
from collections.abc import Callable
from typing import Any

from adapad_jax.tasks.files import files_of_split
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
  """Readers of every split of a folder that `DatasetDict.save_to_disk` wrote.

  Raises:
    ValueError: if it is damaged, or files beside it are named after its splits.
  """
  import datasets

  try:
    loaded = datasets.load_from_disk(str(folder))
  except (OSError, ValueError, KeyError, TypeError) as error:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise ValueError(
      f'{folder}: the dataset that lies there cannot be loaded ({reason}); save it'
      ' again'
    ) from error
  if beside := files_of_split(folder, loaded):
    raise ValueError(
      f'{folder} holds a saved dataset (dataset_dict.json) and, under the names of its'
      f' splits, {[path.name for path in beside]}; move one of the two away'
    )
  return _tables(loaded, str(folder))


def is_saved(folder: pathlib.Path) -> bool:
  """Whether `DatasetDict.save_to_disk` wrote the folder."""
  return (folder / 'dataset_dict.json').is_file()


def _tables(loaded: Any, source: str) -> dict[str, Callable[[], Table]]:
  return {
    split: lambda split=split: _table(loaded[split], f'{source} [{split}]')
    for split in loaded
  }


def _table(dataset: Any, source: str) -> Table:
  """The columns of a dataset, with class numbers spelled as names; -1 is None.

  Raises:
    ValueError: for a class number that has no name.
  """
  columns = dataset.to_dict()
  for column, feature in dataset.features.items():
    names = getattr(feature, 'names', None)
    if not names:
      continue
    numbers = columns[column]
    for row, number in enumerate(numbers):
      if number is not None and number >= len(names):
        raise ValueError(
          f'{source}: the class number {number} in row {row} (counted from 0) of column'
          f' {column!r} has no name: there are {len(names)}, {names[:20]}'
        )
    columns[column] = [None if n is None or n < 0 else names[n] for n in numbers]
  return Table(columns, source)
