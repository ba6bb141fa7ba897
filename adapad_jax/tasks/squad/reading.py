"""Question files and the hub as tables with the hub's columns.

The columns are id, title, context, question and answers; an answers cell is a dict
of the lists 'text' and 'answer_start', empty where there is no answer and None
where the answers are not known. Without a title the passage is its own.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from adapad_jax.files import read_json
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.files import existing, folder_tables, read_table
from adapad_jax.tasks.hub import hub_tables, is_saved, saved_tables
from adapad_jax.tasks.table import Table

HUB = {'squad': 'rajpurkar/squad', 'squad_v2': 'rajpurkar/squad_v2'}
COLUMNS = ('id', 'title', 'context', 'question', 'answers')
_VERSION = {'squad': 'v1.1', 'squad_v2': 'v2.0'}
_SPLITS = ('train', 'validation', 'test')


def find_tables(config: DataConfig) -> dict[str, Callable[[], Table]]:
  """Readers by split: of the files that are named, or else of the hub.

  Raises:
    ValueError: if there is no training data, or a file is missing.
  """
  found: dict[str, Callable[[], Table]] = {}
  if config.path:
    found |= _folder(pathlib.Path(config.path).expanduser(), config.task)
  for name in _SPLITS:
    if path := getattr(config, name):
      found[name] = functools.partial(read_questions, existing(path))
  if not found:
    instead = (
      'give official files: data.train=train-v1.1.json data.validation=dev-v1.1.json'
    )
    found |= hub_tables(HUB[config.task], None, instead)
  if 'train' not in found:
    raise ValueError(
      f'task {config.task!r} needs data.train=FILE, or data.path=FOLDER with a file'
      f' such as train-{_VERSION[config.task]}.json'
    )
  return found


def read_questions(path: str | pathlib.Path) -> Table:
  """Reads .json in the official or a flat layout, .jsonl or .parquet.

  A flat .json is a list, or the list under 'data', of objects with 'question' and
  'context', and optionally 'id', 'title' and 'answers'.

  Raises:
    ValueError: if there is no such file, or an object lacks a field.
  """
  path = existing(path)
  if path.suffix != '.json':
    return _with_columns(read_table(path))
  data = read_json(path)
  entries = data.get('data') if isinstance(data, dict) else data
  if not isinstance(entries, list):
    raise ValueError(
      f"{path}: expected a list of questions or articles, or one under 'data'"
    )
  rows = list(_rows(entries, str(path)))
  columns = {name: [row[name] for row in rows] for name in COLUMNS}
  return Table(columns, str(path))


def _folder(folder: pathlib.Path, task: str) -> dict[str, Callable[[], Table]]:
  """Reads a saved dataset, official files, or files named after splits."""
  if not folder.is_dir():
    raise ValueError(f'data.path={folder}: there is no such folder')
  if is_saved(folder):
    return saved_tables(folder)
  tables = folder_tables(folder, _SPLITS)
  found = {
    name: lambda read=read: _with_columns(read()) for name, read in tables.items()
  }
  official = {'train': 'train', 'validation': 'dev'}
  for name in _SPLITS:
    stems = (f'{official.get(name, name)}-{_VERSION[task]}', name)
    for path in (folder / f'{stem}.json' for stem in stems):
      if path.is_file():
        found[name] = functools.partial(read_questions, path)
        break
  return found


def _with_columns(table: Table) -> Table:
  """The same rows with all columns: 'id', 'title' and 'answers' may be missing."""
  rows = len(table)
  made = {
    'id': [str(i) for i in range(rows)],
    'title': table['context'],
    'answers': [None] * rows,
  }
  columns = {
    name: made[name] if name in made and name not in table.columns else table[name]
    for name in COLUMNS
  }
  columns['answers'] = [_lists(cell, table.source) for cell in columns['answers']]
  return Table(columns, table.source)


def _rows(entries: list[Any], source: str) -> Iterator[dict[str, Any]]:
  """The questions of articles in the official layout, and those that lie flat."""
  count = 0
  for entry in entries:
    for row in _flatten(entry, source):
      row.setdefault('id', str(count))
      row.setdefault('title', row['context'])
      row['answers'] = _lists(row.get('answers'), source)
      row['id'] = str(row['id'])
      yield row
      count += 1


def _flatten(entry: Any, source: str) -> Iterator[dict[str, Any]]:
  if not isinstance(entry, Mapping):
    raise ValueError(f'{source}: expected an object with a question, got {entry!r:.80}')
  if 'paragraphs' not in entry:
    _need(entry, ('question', 'context'), source)
    yield dict(entry)
    return
  for paragraph in entry['paragraphs']:
    _need(paragraph, ('context', 'qas'), source)
    for question in paragraph['qas']:
      _need(question, ('question',), source)
      title = {'title': entry['title']} if 'title' in entry else {}
      yield {**question, **title, 'context': paragraph['context']}


def _need(entry: Mapping[str, Any], names: tuple[str, ...], source: str) -> None:
  for name in names:
    if name not in entry:
      where = entry.get('id', entry.get('question', ''))
      raise ValueError(
        f'{source}: {name!r} is missing at {where!r:.80}; there is {sorted(entry)}'
      )


def _lists(answers: Any, source: str) -> dict[str, list] | None:
  """One cell of answers from either spelling: a list of objects, or lists."""
  if answers is None:
    return None
  if isinstance(answers, Mapping):
    _need(answers, ('text', 'answer_start'), source)
    return {name: list(answers[name]) for name in ('text', 'answer_start')}
  for answer in answers:
    _need(answer, ('text', 'answer_start'), source)
  return {name: [a[name] for a in answers] for name in ('text', 'answer_start')}
