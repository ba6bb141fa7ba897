"""Rows of files to a store of tokens, in chunks, on all cores."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.counter import RowCounter
from adapad_jax.tasks.in_order import in_order
from adapad_jax.tasks.sft.conversation import BadRow
from adapad_jax.tasks.sft.encode import Encoded, Encoder
from adapad_jax.tasks.sft.layouts import Columns, Layout, find_layout
from adapad_jax.tasks.sft.masks import mark
from adapad_jax.tasks.sft.reading import Rows
from adapad_jax.tasks.sft.store import Store, stored
from adapad_jax.tasks.sft.template import Template
from adapad_jax.tasks.store import Writer
from adapad_jax.tasks.tokenise import digest, versions

# Raise it when the same rows come to be tokenised in another way.
_VERSION = 3
_CHUNK = 256
_SHOWN = 5
_HOW_TO_DROP = '; data.bad_rows=drop leaves such rows out and counts them'


@dataclasses.dataclass(frozen=True)
class Tokenisation:
  """How rows become tokens.

  Attributes:
    template: renders conversations.
    loss: what is learned, see `masks.mark`.
    columns: names of columns.
    drop: whether bad rows are left out; else the first one is an error.
    tokenizer: names the tokenizer: the same one has the same digest.
  """

  template: Template
  loss: str
  columns: Columns
  drop: bool
  tokenizer: str


@dataclasses.dataclass(frozen=True)
class _Chunk:
  file: int
  rows: Rows
  layout: Layout
  items: list[tuple[int, Any]]


@dataclasses.dataclass(frozen=True)
class _Done:
  """What became of a chunk: rows, and (number, reason) of those that were bad."""

  chunk: _Chunk
  numbers: list[int]
  rows: list[Encoded]
  bad: list[tuple[int, str]]


def tokenise_all(
  files: Sequence[Rows],
  tokenisation: Tokenisation,
  encoder: Encoder,
  cache: str,
  name: str,
) -> Store:
  """The tokens of all rows of some files, from the cache if they are there.

  Args:
    files: what to read.
    tokenisation: how.
    encoder: the tokenizer.
    cache: folder of the cache; '' is the user's.
    name: of the split, for the progress shown.

  Raises:
    ValueError: for a bad row, by file and row, unless these are dropped; or if no row
      is left.
  """
  key = {
    'version': _VERSION,
    'packages': versions(),
    'files': [rows.digest() for rows in files],
    'template': tokenisation.template.text,
    'names': dict(tokenisation.template.tokens),
    'tokenizer': tokenisation.tokenizer,
    'recipe': [
      tokenisation.loss,
      tokenisation.drop,
      dataclasses.astuple(tokenisation.columns),
    ],
  }
  make = functools.partial(_write, files, tokenisation, encoder, name)
  store = stored(cache, key, make)
  if not len(store):
    bad = sum(store.about['bad'])
    why = f': all {bad} are bad; {first_bad(store, files)[0]}' if bad else ''
    raise ValueError(f'{", ".join(rows.source for rows in files)} has no rows{why}')
  return store


def first_bad(store: Store, files: Sequence[Rows]) -> list[str]:
  """Where the first rows that were left out are, and why."""
  return [
    f'{files[file].place(number)}: {reason}'
    for file, number, reason in store.about['first']
  ]


def _write(
  files: Sequence[Rows],
  tokenisation: Tokenisation,
  encoder: Encoder,
  name: str,
  writer: Writer,
) -> dict[str, Any]:
  layouts, bad = [''] * len(files), [0] * len(files)
  first: list[tuple[int, int, str]] = []
  work = functools.partial(_work, tokenisation, encoder)
  with RowCounter(f'tokenising {name}') as counter:
    for done in in_order(work, _chunks(files, tokenisation.columns)):
      chunk = done.chunk
      layouts[chunk.file] = chunk.layout.name
      for number, reason in done.bad:
        if not tokenisation.drop:
          raise ValueError(f'{chunk.rows.place(number)}: {reason}{_HOW_TO_DROP}')
        bad[chunk.file] += 1
        first += [(chunk.file, number, reason)] if len(first) < _SHOWN else []
      if done.rows:
        writer.append(**_columns(done))
      counter.advance(len(chunk.items), writer.sizes['ids'])
  return {'layouts': layouts, 'bad': bad, 'first': first}


def _chunks(files: Sequence[Rows], columns: Columns) -> Iterator[_Chunk]:
  for number, rows in enumerate(files):
    items = iter(rows.read())
    layout = None
    while part := list(itertools.islice(items, _CHUNK)):
      layout = layout or find_layout(part[0][1], columns, rows.source)
      yield _Chunk(number, rows, layout, part)


def _work(tokenisation: Tokenisation, encoder: Encoder, chunk: _Chunk) -> _Done:
  numbers, marked, bad = [], [], []
  for number, row in chunk.items:
    try:
      marked.append(mark(chunk.layout(row), tokenisation.template, tokenisation.loss))
      numbers.append(number)
    except BadRow as error:
      bad.append((number, str(error)))
  kept_numbers, rows = [], []
  for number, encoded in zip(numbers, encoder.encode(marked), strict=True):
    if isinstance(encoded, BadRow):
      bad.append((number, str(encoded)))
    else:
      kept_numbers.append(number)
      rows.append(encoded)
  return _Done(chunk, kept_numbers, rows, sorted(bad))


def _columns(done: _Done) -> dict[str, np.ndarray]:
  return {
    'ids': np.concatenate([row.ids_L for row in done.rows]),
    'learned': np.concatenate([row.learned_L for row in done.rows]),
    'length': np.array([len(row.ids_L) for row in done.rows]),
    'file': np.full(len(done.rows), done.chunk.file),
    'row': np.array(done.numbers),
  }


def digest_of_tokenizer(encoder: Encoder) -> str:
  """Names a tokenizer by everything in it."""
  return digest([f'{encoder.end} {encoder.tokens.to_str()}'])
