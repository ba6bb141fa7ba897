"""Tables from the Hugging Face hub and from folders that `datasets` saved."""

import dataclasses
import fnmatch
import functools
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import huggingface_hub

from adapad_jax import hub
from adapad_jax.origins import HubCommit
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.files import files_of_split
from adapad_jax.tasks.reader import Reader
from adapad_jax.tasks.table import Table

# What a subset is called where there is but one.
_ONLY = 'default'
_CARD, _INFOS = 'README.md', 'dataset_infos.json'
# What `datasets` reads; a repository without a list of its files has some of these.
_SUFFIXES = ('.parquet', '.csv', '.tsv', '.json', '.jsonl', '.ndjson', '.txt', '.arrow')
_PACKED = ('', '.gz', '.bz2', '.xz', '.zst')

T = TypeVar('T')
Readers = dict[str, Reader]
Card = Mapping[str, Any]


def place_of(config: DataConfig) -> pathlib.Path | hub.Repository | None:
  """What `data.path` names: a folder, else a data set of the hub; None if empty.

  Raises:
    ValueError: if there is no such folder, and it cannot be the id of a data set.
  """
  if not config.path:
    return None
  if is_on_hub(config.path):
    return hub.parse(config.path, 'dataset', config.revision)
  folder = pathlib.Path(config.path).expanduser()
  if not folder.is_dir():
    raise ValueError(f'data.path={folder}: there is no such folder')
  return folder


def is_on_hub(path: str) -> bool:
  """Whether a path is the id of a data set: no folder, and of the form OWNER/NAME."""
  is_folder = pathlib.Path(path).expanduser().is_dir()
  return hub.is_id(path, owner=True) and not is_folder


def hub_tables(
  repository: hub.Repository, subset: str, instead: str, *, listed: bool = True
) -> Readers:
  """Readers of every split of one subset of a data set on the hub, at one commit.

  Arguments and errors as of `hub_datasets`.
  """
  loaded, commit = hub_datasets(repository, subset, instead, listed=listed)
  return _tables(loaded, named(repository, subset), commit)


def hub_datasets(
  repository: hub.Repository, subset: str, instead: str, *, listed: bool = True
) -> tuple[Any, HubCommit]:
  """One subset of a data set on the hub, as `datasets` reads it, and its commit.

  Args:
    repository: e.g. 'nyu-mll/glue'.
    subset: e.g. 'cola', what the hub's card calls a config; '' means its default.
    instead: what a user without the hub can do, for the message.
    listed: whether a subset that is neither listed nor a folder is refused; otherwise
      all files are of it.

  Raises:
    ValueError: if neither the hub nor the cache has it, there is no such subset, or
      its files are damaged.
  """
  what = named(repository, subset)
  try:
    return hub.take(repository, lambda found: _read(found, subset, what, listed))
  except hub.HubError as error:
    raise ValueError(
      f'cannot get {what} from the hub: {error.reason}. Without the hub, {instead}'
    ) from error


def named(repository: hub.Repository, subset: str) -> str:
  """A subset of a data set, for messages."""
  return f'{repository.name} ({subset})' if subset else repository.name


def saved_tables(folder: pathlib.Path) -> Readers:
  """Readers of every split of a folder that `DatasetDict.save_to_disk` wrote.

  Raises:
    ValueError: if it is damaged, or files beside it are named after its splits.
  """
  loaded = saved_datasets(folder)
  read = _tables(loaded, str(folder))
  return {
    split: dataclasses.replace(one, files=saved_files(folder, split))
    for split, one in read.items()
  }


def saved_files(folder: pathlib.Path, split: str) -> tuple[pathlib.Path, ...]:
  """The files of a split of such a folder."""
  return tuple(sorted((folder / split).glob('*.arrow')))


def saved_datasets(folder: pathlib.Path) -> Any:
  """What `DatasetDict.save_to_disk` wrote to a folder.

  Raises:
    ValueError: if it is damaged, or files beside it are named after its splits.
  """
  import datasets  # Takes seconds to import, and few runs need it.

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
  return loaded


def is_saved(folder: pathlib.Path) -> bool:
  """Whether `DatasetDict.save_to_disk` wrote the folder."""
  return (folder / 'dataset_dict.json').is_file()


def _read(
  found: hub.Snapshot, subset: str, what: str, listed: bool
) -> tuple[Any, HubCommit]:
  """Fetches what a subset consists of, and reads it."""
  described = [name for name in (_CARD, _INFOS) if name in found.sizes]
  folder = found.fetch(described)
  card = _card(folder / _CARD) if _CARD in described else {}
  chosen = choose_subset(card, subset, str(found.repository))
  if subset not in ('', _ONLY) and not chosen:
    chosen = _folder_of(subset, found, listed)
  names = sorted(files_of(chosen, found.sizes))
  if not names:
    raise ValueError(
      f'{what} has no data files that can be read; it has {sorted(found.sizes)[:20]}'
    )
  found.fetch(names)
  found.keep()
  loaded = _load(folder, [*names, *described], card, chosen, what)
  return loaded, found.origin


def _folder_of(subset: str, found: hub.Snapshot, listed: bool) -> Mapping[str, Any]:
  """The entry of a subset of a repository whose card lists none: its folder.

  Raises:
    ValueError: if there is no such folder, and there must be one.
  """
  if any(name.startswith(f'{subset}/') for name in found.sizes):
    return {'config_name': subset, 'data_dir': subset}
  if listed:
    raise ValueError(
      f'{found.repository} lists no subsets in a card, and has no folder {subset!r}:'
      ' leave data.subset empty'
    )
  return {}


def _card(path: pathlib.Path) -> Card:
  """The metadata of a card, {} where it has none.

  Raises:
    ValueError: if it cannot be read.
  """
  try:
    return huggingface_hub.DatasetCard.load(path, ignore_metadata_errors=True).data
  except Exception as error:  # yaml has its own family of exceptions.
    reason = ' '.join(str(error).split())
    raise ValueError(f'{path} cannot be read as a card: {reason}') from error


def choose_subset(card: Card, subset: str, what: str) -> Mapping[str, Any]:
  """The entry of a subset in a card's list; {} where the card lists none.

  Raises:
    ValueError: if there is no such subset, or several and none is the default.
  """
  entries = {e.get('config_name', _ONLY): e for e in card.get('configs') or ()}
  if not entries:
    return {}
  if subset:
    if subset not in entries:
      raise ValueError(f'{what} has no subset {subset!r}; choose from {list(entries)}')
    return entries[subset]
  defaults = [name for name, e in entries.items() if e.get('default')]
  first = [*defaults, *([_ONLY] if _ONLY in entries else [])]
  if not first and len(entries) > 1:
    raise ValueError(
      f'{what} has several subsets; choose one by data.subset, from {list(entries)}'
    )
  return entries[(first or list(entries))[0]]


def files_of(entry: Mapping[str, Any], names: Iterable[str]) -> set[str]:
  """The files that belong to a subset, by its entry in the card.

  An entry names files by patterns, one by one or by split, or a folder; without
  either, every file of a kind that `datasets` reads belongs to it.
  """
  folder = str(entry.get('data_dir') or '').removeprefix('./').strip('/')
  within = f'{folder}/' if folder else ''
  inside = {name for name in names if name.startswith(within)}
  patterns = list(_patterns(entry.get('data_files') or ()))
  if not patterns:
    kinds = tuple(f'{suffix}{end}' for suffix in _SUFFIXES for end in _PACKED)
    plain = {n for n in inside if not re.search(r'(^|/)\.', n)}
    return {n for n in plain if n.endswith(kinds) and n != _INFOS}
  match = lambda name: any(
    # `**/` stands for any number of folders, also for none.
    fnmatch.fnmatchcase(name, f'{within}{one.removeprefix("./")}')
    or fnmatch.fnmatchcase(name, f'{within}{one.replace("**/", "")}')
    for one in patterns
  )
  return {name for name in inside if match(name)}


def _patterns(given: Any) -> Iterable[str]:
  """All patterns in a card's `data_files`: text, a list, or entries with a 'path'."""
  if isinstance(given, str):
    yield given
  elif isinstance(given, Mapping):
    yield from _patterns(given['path'] if 'path' in given else list(given.values()))
  else:
    for one in given:
      yield from _patterns(one)


def _load(
  folder: pathlib.Path,
  names: Iterable[str],
  card: Card,
  chosen: Mapping[str, Any],
  what: str,
) -> Any:
  """Has `datasets` read the files of one subset, and those alone.

  It looks at the first subset of a card whichever is asked for, so it is shown a
  folder of links with a card that has one.
  """
  import datasets

  with tempfile.TemporaryDirectory(prefix='adapad_jax-') as scratch:
    view = pathlib.Path(scratch, 'view')
    for name in names:
      (view / name).parent.mkdir(parents=True, exist_ok=True)
      (view / name).symlink_to((folder / name).resolve())
    if chosen:
      (view / _CARD).unlink(missing_ok=True)
      _write_card(view / _CARD, card, chosen)
    read = functools.partial(
      datasets.load_dataset,
      str(view),
      chosen.get('config_name'),
      cache_dir=f'{scratch}/cache',
      keep_in_memory=True,
    )
    try:
      return _quietly(read)
    # Its own families, and those of pyarrow, pandas and fsspec.
    except Exception as error:
      raise ValueError(
        f'the data files of {what} cannot be read ({_cause(error)}); if one is damaged,'
        f' remove {folder} to have it downloaded again'
      ) from error


def _quietly(read: Callable[[], T]) -> T:
  """Reads without a progress bar for each split: what takes time was the download."""
  import datasets

  if datasets.are_progress_bars_disabled():
    return read()
  datasets.disable_progress_bars()
  try:
    return read()
  finally:
    datasets.enable_progress_bars()


def _write_card(path: pathlib.Path, card: Card, chosen: Mapping[str, Any]) -> None:
  infos = card.get('dataset_info') or []
  infos = [infos] if isinstance(infos, Mapping) else infos
  name = chosen.get('config_name', _ONLY)
  kept = {'configs': [dict(chosen)]}
  same = [dict(one) for one in infos if one.get('config_name', _ONLY) == name]
  huggingface_hub.metadata_save(path, kept | ({'dataset_info': same} if same else {}))


def _cause(error: BaseException) -> str:
  """The first cause in one line: `datasets` wraps it in what says nothing."""
  while error.__cause__ is not None:
    error = error.__cause__
  return f'{type(error).__name__}: {" ".join(str(error).split())}'


def _tables(loaded: Any, source: str, commit: HubCommit | None = None) -> Readers:
  return {
    split: Reader(
      functools.partial(_table, dataset, f'{source} [{split}]'),
      hub=commit,
      names=_class_names(dataset) if commit else {},
    )
    for split, dataset in loaded.items()
  }


def _class_names(dataset: Any) -> dict[str, tuple[str, ...]]:
  found = {name: getattr(x, 'names', None) for name, x in dataset.features.items()}
  return {name: tuple(names) for name, names in found.items() if names}


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
