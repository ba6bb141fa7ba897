"""Rows of a split: which are taken, how often, cut where, and what the counts say."""

import numpy as np
import pytest

from adapad_jax.tasks.sft.reading import Rows
from adapad_jax.tasks.sft.rows import (
  columns_of,
  documents,
  drawn,
  flat,
  held_out,
  packed_columns,
  padding_of,
  weighted,
)
from adapad_jax.tasks.sft.store import Store

# Five rows of 4, 6, 2, 5 and 3 tokens from two files; 10 n + place is a token's id.
LENGTHS = np.array([4, 6, 2, 5, 3], np.int32)
IDS = np.concatenate([10 * n + np.arange(size) for n, size in enumerate(LENGTHS)])
# The second row is learned behind its fourth token alone.
LEARNED = np.concatenate(
  [np.arange(size) >= (4 if size == 6 else 1) for size in LENGTHS]
)
STORE = Store(
  IDS.astype(np.int32), LEARNED.astype(np.uint8), LENGTHS,
  np.array([0, 0, 0, 1, 1]), np.arange(5), {'bad': [2, 1]},
)  # fmt: skip
ALL = np.arange(5)
FILES = tuple(Rows(name, 'row', lambda: iter(()), lambda: '') for name in 'fg')


def test_rows_that_fit_stay_as_they_are():
  rows = documents(STORE, ALL, 6, 'refuse', FILES)
  columns = columns_of(rows, fill=7)
  assert columns['ids_BL'].shape == (5, 6)
  np.testing.assert_array_equal(columns['ids_BL'][2], [20, 21, 7, 7, 7, 7])
  np.testing.assert_array_equal(columns['learned_BL'][1], [0, 0, 0, 0, 1, 1])
  np.testing.assert_array_equal(columns['mask_BL'][:].sum(axis=1), LENGTHS)
  counts = rows.counts
  assert (counts.rows, counts.tokens, counts.learned) == (5, 20, 12)
  assert (counts.cut, counts.long, counts.silent, counts.bad) == (0, 0, 0, 3)


def test_long_rows_are_cut_and_dropped_where_nothing_is_left_to_learn():
  rows = documents(STORE, ALL, 4, 'cut', FILES)
  assert rows.index_N.tolist() == [0, 2, 3, 4] and rows.length_N.tolist() == [
    4,
    2,
    4,
    3,
  ]
  assert (rows.counts.cut, rows.counts.silent, rows.counts.long) == (1, 1, 0)
  np.testing.assert_array_equal(columns_of(rows, 0)['ids_BL'][2], [30, 31, 32, 33])
  np.testing.assert_array_equal(flat(rows, IDS)[-3:], [40, 41, 42])


def test_long_rows_are_dropped_or_refused():
  rows = documents(STORE, ALL, 4, 'drop', FILES)
  assert rows.index_N.tolist() == [0, 2, 4]
  assert (rows.counts.cut, rows.counts.silent, rows.counts.long) == (0, 0, 2)
  with pytest.raises(ValueError, match='f, g: 2 rows .* f, row 1 .* with 6'):
    documents(STORE, ALL, 4, 'refuse', FILES)
  with pytest.raises(ValueError, match='f, g: 1 rows .* g, row 3 .* with 5'):
    documents(STORE, ALL[3:], 3, 'refuse', FILES)
  with pytest.raises(ValueError, match='none of 1 rows .*nothing to be learned. Raise'):
    documents(STORE, np.array([1]), 4, 'cut', FILES)
  with pytest.raises(ValueError, match='none of 1 rows .*too_long=drop leaves'):
    documents(STORE, np.array([1]), 4, 'drop', FILES)


def test_packed_rows_hold_every_document_once():
  rows = documents(STORE, ALL, 8, 'cut', FILES)
  columns = packed_columns(rows, 8, fill=0)
  ids, segments = columns['ids_BL'][:], columns['segments_BL'][:]
  assert ids.shape == (3, 8)
  found = {}
  for row in range(3):
    for number in range(1, segments[row].max() + 1):
      inside = segments[row] == number
      tokens = ids[row, inside].tolist()
      found[tokens[0] // 10] = tokens
      # Nothing predicts a document's first token.
      assert columns['learned_BL'][row][inside][0] == 0
  assert found == {n: (10 * n + np.arange(k)).tolist() for n, k in enumerate(LENGTHS)}
  assert columns['learned_BL'][:].sum() == rows.counts.learned
  np.testing.assert_array_equal(columns['mask_BL'][:], segments > 0)
  assert padding_of(columns) == pytest.approx(1 - 20 / 24)
  assert padding_of(columns_of(rows, 0)) == pytest.approx(1 - 20 / 30)


def test_files_are_seen_as_often_as_they_weigh():
  seen = lambda *weights: weighted(STORE, ALL, weights, 2)
  assert seen().tolist() == ALL.tolist()
  assert sorted(seen(2, 0).tolist()) == [0, 0, 1, 1, 2, 2]
  half = seen(1, 0.5)
  assert len(half) == 4 and set(half[:3].tolist()) == {0, 1, 2} and half[3] in (3, 4)
  assert half.tolist() == seen(1, 0.5).tolist()
  assert np.bincount(seen(1, 2.5)).tolist()[:3] == [1, 1, 1]
  assert sorted(np.bincount(seen(1, 2.5)).tolist()[3:]) == [2, 3]
  with pytest.raises(ValueError, match='has 3 numbers for 2 training files'):
    seen(1, 1, 1)


def test_rows_held_out_are_not_trained_on():
  train, held = held_out(40, 0.05)
  assert len(held) == 2 and sorted([*train, *held]) == list(range(40))
  assert held_out(40, 0.05)[1].tolist() == held.tolist()
  assert len(held_out(3, 0.05)[1]) == 1
  with pytest.raises(ValueError, match='of 1 rows leaves 0 rows'):
    held_out(1, 0.05)


def test_rows_are_drawn_in_their_order():
  some = drawn(np.arange(100), 10)
  assert len(set(some.tolist())) == 10 and (np.diff(some) > 0).all()
  assert drawn(ALL, 0) is ALL and drawn(ALL, 9) is ALL
