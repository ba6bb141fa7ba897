"""The GLUE tasks: one row of a table each, from the hub or the official files."""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Mapping

from adapad_jax import hub
from adapad_jax.tasks import metrics
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.files import (
  existing,
  files_of_split,
  only_one,
  read_table,
  read_tsv,
)
from adapad_jax.tasks.hub import hub_tables, is_saved, place_of, saved_tables
from adapad_jax.tasks.labels import Classes
from adapad_jax.tasks.reader import Read, Reader, Readers
from adapad_jax.tasks.source import Source
from adapad_jax.tasks.table import Table
from adapad_jax.tasks.text_files import kind_of, read_text

HUB = 'nyu-mll/glue'
_SINGLE = {'train': 'train', 'validation': 'dev', 'test': 'test'}
_MATCHED = {
  'train': 'train',
  'validation': 'dev_matched',
  'validation_mm': 'dev_mismatched',
  'test': 'test_matched',
  'test_mm': 'test_mismatched',
}
_HUB_NAMES = {
  'validation': 'validation_matched',
  'validation_mm': 'validation_mismatched',
  'test': 'test_matched',
  'test_mm': 'test_mismatched',
}


@dataclasses.dataclass(frozen=True)
class GlueTask:
  """One task: how the hub and the official files spell it, and how it is scored.

  Attributes:
    folder: name of the official folder.
    text: text columns on the hub.
    labels: class names in the official order; None means regression.
    metrics: the official metrics.
    metric: the one that tells the best checkpoint.
    official: official column names of `text` and of the label, where they differ.
    header: column names of official train and dev files that have no header line.
    files: official file stem by split.
  """

  folder: str
  text: tuple[str, ...]
  labels: tuple[str, ...] | None
  metrics: metrics.Metric
  metric: str
  official: dict[str, str] = dataclasses.field(default_factory=dict)
  header: tuple[str, ...] | None = None
  files: dict[str, str] = dataclasses.field(default_factory=lambda: _SINGLE)


_SENTENCES = ('sentence1', 'sentence2')
TASKS = {
  'cola': GlueTask(
    'CoLA',
    ('sentence',),
    ('unacceptable', 'acceptable'),
    metrics.matthews,
    'matthews_correlation',
    header=('source', 'label', 'judgement', 'sentence'),
  ),
  'sst2': GlueTask(
    'SST-2', ('sentence',), ('negative', 'positive'), metrics.accuracy, 'accuracy'
  ),
  'mrpc': GlueTask(
    'MRPC',
    _SENTENCES,
    ('not_equivalent', 'equivalent'),
    metrics.accuracy_f1,
    'accuracy',
    official={'sentence1': '#1 String', 'sentence2': '#2 String', 'label': 'Quality'},
  ),
  'stsb': GlueTask(
    'STS-B',
    _SENTENCES,
    None,
    metrics.pearson_spearman,
    'pearson',
    official={'label': 'score'},
  ),
  'qqp': GlueTask(
    'QQP',
    ('question1', 'question2'),
    ('not_duplicate', 'duplicate'),
    metrics.accuracy_f1,
    'accuracy',
    official={'label': 'is_duplicate'},
  ),
  'mnli': GlueTask(
    'MNLI',
    ('premise', 'hypothesis'),
    ('entailment', 'neutral', 'contradiction'),
    metrics.accuracy,
    'accuracy',
    official={
      'premise': 'sentence1',
      'hypothesis': 'sentence2',
      'label': 'gold_label',
    },
    files=_MATCHED,
  ),
  'qnli': GlueTask(
    'QNLI',
    ('question', 'sentence'),
    ('entailment', 'not_entailment'),
    metrics.accuracy,
    'accuracy',
  ),
  'rte': GlueTask(
    'RTE', _SENTENCES, ('entailment', 'not_entailment'), metrics.accuracy, 'accuracy'
  ),
}


def load(config: DataConfig) -> Source:
  """The source of a GLUE task, from `config.path` or else from the hub.

  Both are looked at when the first table is asked for.
  """
  glue = TASKS[config.task]
  classes = None
  if glue.labels:
    codes = {str(i): name for i, name in enumerate(glue.labels)}
    classes = Classes(glue.labels, codes)
  return Source(
    name=config.task,
    tables=Readers(functools.partial(_tables, config, glue)),
    text=glue.text,
    label='label',
    classes=classes,
    metrics=glue.metrics,
    metric=glue.metric,
    read=functools.partial(_read, glue),
    blank_ok=True,
    missing=('-1',),
  )


def official_table(glue: GlueTask, path: pathlib.Path, *, whole: bool = False) -> Table:
  """Reads an official .tsv file into the hub's columns.

  Args:
    glue: the task.
    path: the file.
    whole: keeps every row, for predictions go by their number, and refuses one with
      too many cells. Otherwise those that lack a text or a label are dropped with a
      warning: QQP's have some.
  """
  header = glue.header
  if header and _has_header(path):
    header = None  # CoLA's test file has a header line, its others have none.
  names = [*glue.text, 'label']
  spelled = {name: glue.official.get(name, name) for name in names}
  raw = read_tsv(path, header, ragged=not whole, only=spelled.values())
  if spelled['label'] not in raw.columns:  # A test file.
    del spelled['label']
  columns = {name: raw[column] for name, column in spelled.items()}
  table = dataclasses.replace(raw, columns=columns)
  if whole or not any(None in column for column in columns.values()):
    return table
  kept = [
    i for i, row in enumerate(zip(*columns.values(), strict=True)) if None not in row
  ]
  logging.getLogger(__name__).warning(
    '%s: dropped %d rows that lack a column', path, len(table) - len(kept)
  )
  return table.take(kept)


def _has_header(path: pathlib.Path) -> bool:
  return 'sentence' in read_text(path).partition('\n')[0].rstrip('\r').split('\t')


def _tables(config: DataConfig, glue: GlueTask) -> dict[str, Read]:
  place = place_of(config)
  if isinstance(place, pathlib.Path):
    return _folder_tables(place, glue)
  repository = place or hub.parse(HUB, 'dataset', config.revision)
  instead = (
    f'give a folder with the official files: data.path=FOLDER, where {glue.folder}/'
    f'{glue.files["train"]}.tsv lies'
  )
  subset = config.subset or config.task
  listed = bool(config.subset)  # A mirror of one task may list nothing.
  tables = _renamed(hub_tables(repository, subset, instead, listed=listed), glue)
  needed = (n for n in glue.files if not n.startswith('test'))
  lacking = [name for name in needed if name not in tables]
  if lacking:
    raise ValueError(
      f'{repository} ({subset}) lacks the splits {lacking}; it has {list(tables)}'
    )
  return tables


def _renamed(tables: Mapping[str, Read], glue: GlueTask) -> dict[str, Read]:
  """The splits of the hub's dataset under our names; others keep theirs."""
  matched = 'validation_matched' in tables
  spelled = _HUB_NAMES if matched else {}
  ours = {spelled.get(name, name): name for name in glue.files}
  return {ours.get(name, name): read for name, read in tables.items()}


def _folder_tables(folder: pathlib.Path, glue: GlueTask) -> dict[str, Read]:
  """Reads a saved dataset, official files, or files named after splits."""
  if is_saved(folder):
    return _renamed(saved_tables(folder), glue)
  places = [_place_tables(folder, glue), _place_tables(folder / glue.folder, glue)]
  whole = [found for found in places if 'train' in found and 'validation' in found]
  if len(whole) > 1:
    raise ValueError(
      f'data.path={folder}: training and validation data lie both there and in'
      f' {glue.folder}/; give the folder that is meant'
    )
  if whole:
    return whole[0]
  wanted = [f'{stem}.tsv' for stem in glue.files.values()]
  raise ValueError(
    f'data.path={folder}: found no training and validation data; expected {wanted[:2]}'
    f' there or in {glue.folder}/, a folder saved by datasets, or files such as'
    f' train.csv and validation.csv; it has {sorted(p.name for p in folder.iterdir())}'
  )


def _place_tables(place: pathlib.Path, glue: GlueTask) -> dict[str, Read]:
  """Readers of the official files in a folder, and of files named after splits."""
  found = {}
  if not place.is_dir():
    return found
  for split, stem in glue.files.items():
    official = files_of_split(place, [stem], ['.tsv'])
    others = [p for p in files_of_split(place, [split]) if p not in official]
    if paths := official + others:
      path = only_one(paths, split)
      whole = split.startswith('test')
      read = functools.partial(official_table, glue, whole=whole)
      found[split] = Reader.of(path, read if official else read_table)
  return found


def _read(glue: GlueTask, path: pathlib.Path) -> Table:
  path = existing(path)
  if kind_of(path)[0] == '.tsv':
    return official_table(glue, path, whole=True)
  return read_table(path)
