"""Token ids of many conversations in flat arrays, and which of them are learned."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.store import Kept, Make, kept

KINDS = {
  'ids': np.int32,
  'learned': np.uint8,
  'length': np.int32,
  'file': np.int32,
  'row': np.int64,
}


@dataclasses.dataclass(frozen=True)
class Store:
  """Rows of a split, in the order of their files.

  Attributes:
    ids: of all tokens, one row behind the other.
    learned: 1 for tokens that are to be predicted.
    length_N: tokens of each row.
    file_N: number of its file.
    row_N: its number there.
    about: what else is known: layouts, rows that were bad.
  """

  ids: np.ndarray
  learned: np.ndarray
  length_N: np.ndarray
  file_N: np.ndarray
  row_N: np.ndarray
  about: dict[str, Any]

  def __len__(self) -> int:
    return len(self.length_N)

  @property
  def rows_read(self) -> int:
    """Rows of the files, those that were left out included."""
    return len(self) + sum(self.about['bad'])

  @property
  def start_N(self) -> np.ndarray:
    """Where each row begins."""
    return np.cumsum(self.length_N, dtype=np.int64) - self.length_N


def in_memory(ids: Sequence[np.ndarray], learned: Sequence[np.ndarray]) -> Store:
  """Rows of one file, by their ids and which of these are learned."""
  return Store(
    ids=np.concatenate(ids),
    learned=np.concatenate(learned),
    length_N=np.array([len(row) for row in ids]),
    file_N=np.zeros(len(ids), np.int32),
    row_N=np.arange(len(ids)),
    about={'layouts': [''], 'bad': [0], 'first': []},
  )


def stored(cache: str, key: dict[str, Any], make: Make) -> Store:
  """The rows of a key, made if they are not kept, see `tasks.store.kept`.

  Args:
    cache: the folder of everything that is kept; '' is in the user's cache.
    key: everything that the rows depend on.
    make: writes arrays of `KINDS`.
  """
  return _store(kept(cache, key, KINDS, make))


def _store(found: Kept) -> Store:
  """Lengths and numbers are looked at time and again: these are read into memory."""
  read = {
    f'{name}_N': np.array(found.arrays[name]) for name in ('length', 'file', 'row')
  }
  return Store(
    ids=found.arrays['ids'],
    learned=found.arrays['learned'],
    about=found.about,
    **read,
  )
