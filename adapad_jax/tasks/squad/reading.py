"""Question files and the hub as tables with the hub's columns.

The columns are id, title, context, question and answers; an answers cell is a dict
of the lists 'text' and 'answer_start', empty where there is no answer and None
where the answers are not known. Without a title the passage is its own.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapad_jax import hub
from adapad_jax.tasks.cells import is_null, is_unicode, require_clean, require_plain
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.files import (
  existing,
  files_of_split,
  only_one,
  ours,
  read_table,
)
from adapad_jax.tasks.hub import hub_tables, is_saved, place_of, saved_tables
from adapad_jax.tasks.json_rows import load_json
from adapad_jax.tasks.reader import Read, Reader, as_reader
from adapad_jax.tasks.table import Table
from adapad_jax.tasks.text_files import kind_of

HUB = {'squad': 'rajpurkar/squad', 'squad_v2': 'rajpurkar/squad_v2'}
COLUMNS = ('id', 'title', 'context', 'question', 'answers')
_VERSION = {'squad': 'v1.1', 'squad_v2': 'v2.0'}
_SPLITS = ('train', 'validation', 'test')
_OFFICIAL = {'validation': 'dev'}


def find_tables(config: DataConfig) -> dict[str, Read]:
  """Readers by split: of the files that are named, or else of the hub.

  Raises:
    ValueError: if there is no training data, or a file is missing.
  """
  found: dict[str, Read] = {}
  place = place_of(config)
  if isinstance(place, pathlib.Path):
    unnamed = [name for name in _SPLITS if not getattr(config, name)]
    found |= _folder(place, config.task, unnamed)
  elif place is not None:
    found |= _from_hub(place, config.subset)
  for name in _SPLITS:
    if path := getattr(config, name):
      found[name] = Reader.of(pathlib.Path(path).expanduser(), read_questions)
  if not found:
    own = hub.parse(HUB[config.task], 'dataset', config.revision)
    found |= _from_hub(own, config.subset)
  if 'train' not in found:
    raise ValueError(
      f'task {config.task!r} needs data.train=FILE, or data.path=FOLDER with a file'
      f' such as train-{_VERSION[config.task]}.json'
    )
  return found


def read_questions(path: str | pathlib.Path, *, required: bool = True) -> Table:
  """Reads .json in the official or a flat layout, or a table such as .jsonl.

  A flat .json is a list, or the list under 'data', of objects with 'question' and
  'context', and optionally 'id', 'title' and 'answers'.

  Args:
    path: the file.
    required: refuses malformed answers. Otherwise they are as good as not known.

  Raises:
    ValueError: if there is no such file, an object lacks a field, or one is malformed.
  """
  path = existing(path)
  if kind_of(path)[0] != '.json':
    return _with_columns(read_table(path), required=required)
  data = load_json(path)
  entries = data.get('data') if isinstance(data, dict) else data
  if not isinstance(entries, list):
    raise ValueError(
      f"{path}: expected a list of questions or articles, or one under 'data'"
    )
  rows = [row for entry in entries for row in _flatten(entry, str(path))]
  columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
  columns['title'] = [row.get('title', row['context']) for row in rows]
  return _checked(Table(columns, str(path)), required=required)


def _from_hub(repository: hub.Repository, subset: str) -> dict[str, Read]:
  instead = (
    'give official files: data.train=train-v1.1.json data.validation=dev-v1.1.json'
  )
  return _completed(hub_tables(repository, subset, instead))


def _folder(folder: pathlib.Path, task: str, splits: Sequence[str]) -> dict[str, Read]:
  """Reads a saved dataset, official files, or files named after splits."""
  if is_saved(folder):
    return _completed(saved_tables(folder))
  found = {}
  for split in splits:
    official = f'{_OFFICIAL.get(split, split)}-{_VERSION[task]}'
    paths = files_of_split(folder, [official], ['.json'])
    paths += files_of_split(folder, [split])
    if paths:
      found[split] = Reader.of(only_one(paths, split), read_questions)
  return found


def _completed(tables: Mapping[str, Read]) -> dict[str, Read]:
  """Readers of the same splits, whose rows are checked and have all columns."""
  return {
    name: as_reader(tables[split]).then(_with_columns)
    for split, name in ours(tables).items()
  }


def _with_columns(table: Table, *, required: bool = True) -> Table:
  """The same rows with all columns: 'id', 'title' and 'answers' may be missing."""
  nothing = [None] * len(table)
  columns = {name: table.columns.get(name, nothing) for name in ('id', 'answers')}
  columns |= {name: table[name] for name in ('context', 'question')}
  columns['title'] = table.columns.get('title', columns['context'])
  return _checked(dataclasses.replace(table, columns=columns), required=required)


def _checked(table: Table, *, required: bool) -> Table:
  """The columns in their order, with an id and well-formed answers in every row."""
  for name in ('context', 'question', 'id', 'title'):
    require_plain(table, name)
  ids = _ids(table['id'])
  require_clean(table, 'id', ids)
  read = _lists if required else _lists_or_none
  answers = [
    read(cell, f'{table.source}: question {name!r}')
    for name, cell in zip(ids, table['answers'], strict=True)
  ]
  columns = {**table.columns, 'id': ids, 'answers': answers}
  columns = {name: columns[name] for name in COLUMNS}
  return dataclasses.replace(table, columns=columns)


def _ids(given: Sequence[Any]) -> list[str]:
  """Ids as text; a row without one has its number, or the next that is free."""
  taken = {str(name) for name in given if not is_null(name)}
  ids = []
  for number, name in enumerate(given):
    if is_null(name):
      name = next(str(n) for n in itertools.count(number) if str(n) not in taken)
      taken.add(name)
    ids.append(str(name))
  return ids


def _flatten(entry: Any, source: str) -> Iterator[dict[str, Any]]:
  """The questions of an article in the official layout, or one that lies flat."""
  if not isinstance(entry, Mapping) or 'paragraphs' not in entry:
    yield _with(entry, ('question', 'context'), source)
    return
  for paragraph in _listed(entry, 'paragraphs', source):
    _with(paragraph, ('context', 'qas'), source)
    for question in _listed(paragraph, 'qas', source):
      title = {'title': entry['title']} if 'title' in entry else {}
      context = {'context': paragraph['context']}
      yield _with(question, ('question',), source) | title | context


def _with(entry: Any, names: tuple[str, ...], where: str) -> dict[str, Any]:
  """An object that has these fields."""
  if not isinstance(entry, Mapping):
    raise ValueError(f'{where}: expected an object with {names}, got {entry!r:.80}')
  for name in names:
    if name not in entry:
      place = entry.get('id', entry.get('question', ''))
      raise ValueError(
        f'{where}: {name!r} is missing at {place!r:.80}; there is {sorted(entry)}'
      )
  return dict(entry)


def _listed(entry: Mapping[str, Any], name: str, source: str) -> list[Any]:
  if not isinstance(entry[name], list):
    place = entry.get('title', entry.get('context', ''))
    raise ValueError(
      f'{source}: {name!r} at {place!r:.80} must be a list, got {entry[name]!r:.80}'
    )
  return entry[name]


def _lists_or_none(answers: Any, where: str) -> dict[str, list] | None:
  try:
    return _lists(answers, where)
  except ValueError:
    return None


def _lists(answers: Any, where: str) -> dict[str, list] | None:
  """One cell of answers from either spelling: a list of objects, or lists."""
  if answers is None:
    return None
  names = ('text', 'answer_start')
  if isinstance(answers, Mapping):
    found = _with(answers, names, where)
  elif isinstance(answers, list):
    objects = [_with(answer, names, where) for answer in answers]
    found = {name: [answer[name] for answer in objects] for name in names}
  else:
    raise ValueError(
      f"{where}: 'answers' must be a list of objects with {names}, got {answers!r:.80}"
    )
  texts, starts = (found[name] for name in names)
  for name, values, kind in (('text', texts, str), ('answer_start', starts, int)):
    if not isinstance(values, list) or not all(isinstance(v, kind) for v in values):
      raise ValueError(
        f'{where}: {name!r} of its answers must be of type {kind.__name__} each, got'
        f' {values!r:.80}'
      )
  if not is_unicode(''.join(texts)) or any('\0' in text for text in texts):
    raise ValueError(
      f'{where}: an answer holds half of a surrogate pair, or a NUL character:'
      f' {texts!r:.80}'
    )
  if len(texts) != len(starts):
    raise ValueError(
      f"{where}: there are {len(texts)} 'text' but {len(starts)} 'answer_start'"
    )
  return {'text': texts, 'answer_start': starts}
