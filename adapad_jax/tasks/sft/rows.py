"""Rows of a split: cut, chosen, and one document or several in each."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.ragged import Ragged
from adapad_jax.tasks.sft.packing import pack, padding
from adapad_jax.tasks.sft.reading import Rows
from adapad_jax.tasks.sft.store import Store

# Draws the rows that are held out, or that a weight leaves out.
_SEED = 0
_ROWS = 4096


@dataclasses.dataclass(frozen=True)
class Counts:
  """What became of the rows of a split.

  Attributes:
    rows, tokens, learned: that are left.
    cut: rows that were longer than data.max_length and were cut.
    long: rows that were left out for that.
    silent: rows that were left out because nothing learned was left of them.
    bad: rows that were left out because they were wrong.
  """

  rows: int
  tokens: int
  learned: int
  cut: int = 0
  long: int = 0
  silent: int = 0
  bad: int = 0


@dataclasses.dataclass(frozen=True)
class Documents:
  """Some rows of a store, each with what is left of its length.

  Attributes:
    store: has the tokens.
    index_N: numbers of the rows there.
    length_N: tokens that are kept of each.
    counts: what became of the others.
    files: that the store was made from.
  """

  store: Store
  index_N: np.ndarray
  length_N: np.ndarray
  counts: Counts
  files: Sequence[Rows] = ()

  def __len__(self) -> int:
    return len(self.index_N)

  @property
  def start_N(self) -> np.ndarray:
    """Where each row begins in the store."""
    return self.store.start_N[self.index_N]

  def raw(self, chosen: Sequence[int]) -> list[Any]:
    """Some of the rows as their files have them, read again."""
    places = self.index_N[np.asarray(chosen, int)]
    keys = list(zip(self.store.file_N[places], self.store.row_N[places], strict=True))
    found = {}
    for file in sorted({file for file, _ in keys}):
      left = {int(row) for other, row in keys if other == file}
      for number, row in self.files[file].read():
        if number in left:
          found[file, number] = row
          left.discard(number)
          if not left:
            break
    return [found[key] for key in keys]


def documents(
  store: Store,
  index_N: np.ndarray,
  max_length: int,
  too_long: str,
  files: Sequence[Rows],
  *,
  counts_bad: bool = True,
) -> Documents:
  """Rows that fit, and that something is learned of.

  Args:
    store: has the tokens.
    index_N: which rows.
    max_length: the longest row.
    too_long: 'cut', 'drop' or 'refuse'.
    files: that the store was made from.
    counts_bad: whether the store's bad rows count to these.

  Raises:
    ValueError: if a row is too long and that is refused, or no row is left.
  """
  source = ', '.join(rows.source for rows in files)
  length_N = store.length_N[index_N].astype(np.int64)
  over_N = length_N > max_length
  if over_N.any() and too_long == 'refuse':
    first = int(np.flatnonzero(over_N)[0])
    number = index_N[first]
    place = files[store.file_N[number]].place(int(store.row_N[number]))
    raise ValueError(
      f'{source}: {int(over_N.sum())} rows are longer than data.max_length='
      f'{max_length} tokens; the first one is {place} with {length_N[first]}. Raise it,'
      ' or choose data.chat.too_long=cut or drop'
    )
  # A row that is not cut has something to learn: the store has no others.
  kept_N, start_N = ~over_N, store.start_N[index_N]
  if too_long == 'cut':
    for i in np.flatnonzero(over_N):
      kept_N[i] = store.learned[start_N[i] : start_N[i] + max_length].any()
  length_N = np.minimum(length_N, max_length)[kept_N]
  left_out = int((~kept_N).sum())
  found = Documents(store, index_N[kept_N], length_N, Counts(0, 0, 0), files)
  if not len(found):
    why = (
      f'all are longer than data.max_length={max_length} tokens, and'
      ' data.chat.too_long=drop leaves such rows out'
      if too_long == 'drop'
      else f'cut to data.max_length={max_length} tokens they have nothing to be learned'
    )
    raise ValueError(
      f'{source}: none of {len(index_N)} rows of a split is left; {why}. Raise it'
    )
  counts = Counts(
    rows=len(found),
    tokens=int(length_N.sum()),
    learned=sum(int(part.sum()) for part in _parts(found, store.learned)),
    cut=int((over_N & kept_N).sum()),
    long=left_out if too_long == 'drop' else 0,
    silent=left_out if too_long == 'cut' else 0,
    bad=sum(store.about['bad']) if counts_bad else 0,
  )
  return dataclasses.replace(found, counts=counts)


def flat(rows: Documents, values: np.ndarray) -> np.ndarray:
  """Values of all tokens of some rows, one row behind the other."""
  return np.concatenate([*_parts(rows, values), np.zeros(0, values.dtype)])


def _parts(rows: Documents, values: np.ndarray) -> Iterator[np.ndarray]:
  """The same a few thousand rows at a time: their places alone are larger."""
  start_N, length_N = rows.start_N, rows.length_N
  for first in range(0, len(rows), _ROWS):
    start, length = start_N[first : first + _ROWS], length_N[first : first + _ROWS]
    end = np.cumsum(length)
    place = np.arange(end[-1]) + np.repeat(start - (end - length), length)
    yield np.asarray(values[place])


def frequencies(rows: Documents, vocabulary: int) -> np.ndarray:
  """How often each token is learned, (V,)."""
  count_V = np.zeros(vocabulary, np.int64)
  store = rows.store
  for ids, learned in zip(
    _parts(rows, store.ids), _parts(rows, store.learned), strict=True
  ):
    count_V += np.bincount(ids[learned > 0], minlength=vocabulary)
  return count_V


def columns_of(rows: Documents, fill: int) -> dict[str, Ragged]:
  """One document a row; tokens stay where they are stored."""
  width = int(rows.length_N.max())
  make = lambda values, fill=0: Ragged(values, rows.start_N, rows.length_N, width, fill)
  return {
    'ids_BL': make(rows.store.ids, fill),
    'mask_BL': make(None),
    'learned_BL': make(rows.store.learned),
  }


def packed_columns(rows: Documents, room: int, fill: int) -> dict[str, Ragged]:
  """As many documents a row as fit into `room` tokens, numbered by 'segments_BL'."""
  groups = pack(rows.length_N, room)
  order_N = np.concatenate(groups)
  sorted_rows = dataclasses.replace(
    rows, index_N=rows.index_N[order_N], length_N=rows.length_N[order_N]
  )
  number_N = np.concatenate([np.arange(len(group)) + 1 for group in groups])
  tokens_R = np.array([rows.length_N[group].sum() for group in groups])
  start_R = np.cumsum(tokens_R) - tokens_R
  make = lambda values, fill=0: Ragged(values, start_R, tokens_R, room, fill)
  segments = np.repeat(number_N, sorted_rows.length_N).astype(np.int32)
  return {
    'ids_BL': make(flat(sorted_rows, rows.store.ids), fill),
    'mask_BL': make(None),
    'learned_BL': make(flat(sorted_rows, rows.store.learned)),
    'segments_BL': make(segments),
  }


def padding_of(columns: dict[str, Ragged]) -> float:
  """Share of a split's places that hold no token, without buckets."""
  mask = columns['mask_BL']
  return padding(mask.lengths_N, *mask.shape)


def weighted(
  store: Store, index_N: np.ndarray, weights: Sequence[float], files: int
) -> np.ndarray:
  """The rows of an epoch: those of a file as often as its weight says.

  Raises:
    ValueError: if there is not one weight for each file.
  """
  if not weights:
    return index_N
  if len(weights) != files:
    raise ValueError(
      f'data.weights has {len(weights)} numbers for {files} training files'
    )
  rng = np.random.default_rng(_SEED)
  parts = []
  for number, weight in enumerate(weights):
    mine = index_N[store.file_N[index_N] == number]
    parts += [mine] * math.floor(weight)
    rest = round((weight - math.floor(weight)) * len(mine))
    parts.append(np.sort(rng.permutation(mine)[:rest]))
  return np.concatenate(parts)


def held_out(rows: int, share: float) -> tuple[np.ndarray, np.ndarray]:
  """Numbers of rows to train on and to validate on, drawn with a fixed seed.

  Raises:
    ValueError: if that leaves no row on one of the sides.
  """
  held = math.ceil(share * rows)
  if not 0 < held < rows:
    raise ValueError(
      f'data.holdout={share} of {rows} rows leaves {rows - held} rows to train on and'
      f' {held} to validate on'
    )
  order_N = np.random.default_rng(_SEED).permutation(rows)
  return np.sort(order_N[held:]), np.sort(order_N[:held])


def drawn(index_N: np.ndarray, most: int) -> np.ndarray:
  """At most so many of some rows, drawn with a fixed seed, in their order; 0: all."""
  if not most or most >= len(index_N):
    return index_N
  return np.sort(np.random.default_rng(_SEED).permutation(index_N)[:most])
