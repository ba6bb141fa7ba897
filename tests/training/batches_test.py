"""Tests ../../adapad_jax/training/batches.py."""

import numpy as np
import pytest

from adapad_jax.sharding import shard_order
from adapad_jax.training.batches import (
  Order,
  bucket,
  cut_to_bucket,
  epoch_order,
  lengths,
  padded,
  round_batch,
  trimmed,
)


def test_every_epoch_visits_every_row_once_in_an_order_of_its_own():
  order = Order(10, 4, seed=3)
  rows = np.concatenate([order.batch(step) for step in range(5)])
  first, second = rows[:10], rows[10:]
  assert sorted(first) == sorted(second) == list(range(10))
  assert list(first) != list(second)
  assert list(Order(10, 4, seed=3).batch(3)) == list(rows[12:16])
  assert list(Order(10, 4, seed=4).batch(3)) != list(rows[12:16])


def test_rows_of_like_length_share_a_batch_in_random_places():
  lengths_N = np.random.default_rng(0).integers(1, 100, 640)
  plain, grouped = Order(640, 16, 0), Order(640, 16, 0, lengths_N)
  rows = np.concatenate([grouped.batch(step) for step in range(40)])
  assert sorted(rows) == list(range(640))
  spread = lambda order: np.mean([np.ptp(lengths_N[order.batch(i)]) for i in range(40)])
  assert spread(grouped) < 0.1 * spread(plain)
  # A row's place tells its worker: neither end of a batch may hold the short rows.
  ranks = [np.argsort(np.argsort(lengths_N[grouped.batch(i)])) for i in range(40)]
  assert np.ptp(np.mean(ranks, axis=0)) < 8


@pytest.mark.parametrize('rows, batch', [(1000, 32), (37, 16), (7, 16), (640, 16)])
def test_rows_of_like_length_share_batches_in_every_epoch(rows, batch):
  """The batch that two epochs share is the only one of any lengths."""
  lengths_N = np.random.default_rng(0).integers(1, 1000, rows)
  order, epochs = Order(rows, batch, 5, lengths_N), 7
  steps = epochs * rows // batch
  seen = np.concatenate([order.batch(step) for step in range(steps + 1)])
  for epoch in range(epochs):
    assert sorted(seen[epoch * rows : (epoch + 1) * rows]) == list(range(rows))
  within = [
    s for s in range(steps) if s * batch // rows == (s * batch + batch - 1) // rows
  ]
  groups = [set(order.batch(step)) for step in within]
  inner = lambda group: np.ptp(lengths_N[[*group]])
  if rows > 2 * batch:
    assert np.mean([inner(group) for group in groups]) < 2.5 * 1000 * batch / rows


def test_batches_are_cut_to_the_bucket_that_holds_them():
  mask = np.zeros((1, 2, 12), np.int32)
  mask[0, 0, :3] = mask[0, 1, :5] = 1
  columns = {'mask_BL': mask, 'label_B': np.zeros((1, 2)), 'x': np.zeros((1, 2, 7))}
  out = cut_to_bucket(columns, (4, 6))
  assert out['mask_BL'].shape == (1, 2, 6) and out['x'].shape == (1, 2, 7)
  assert cut_to_bucket(columns, (4,))['mask_BL'].shape == (1, 2, 12)
  assert cut_to_bucket(columns, ())['mask_BL'].shape == (1, 2, 12)
  assert [bucket(n, (4, 6), 12) for n in (1, 4, 5, 7, 12)] == [4, 4, 6, 12, 12]
  left = {'mask_BL': mask[0, :, ::-1]}  # padding on the left counts as used
  assert lengths(left).tolist() == [12, 12]


def test_a_round_takes_its_batches_in_shard_order():
  columns = {'ids_BL': np.arange(20).reshape(10, 2), 'label_B': np.arange(10)}
  order = Order(10, 4, 0)
  batch = round_batch(columns, order, 2, 2, shard_order(4, 2))
  assert batch['ids_BL'].shape == (2, 4, 2)
  want = [order.batch(step)[[0, 2, 1, 3]] for step in (2, 3)]
  np.testing.assert_array_equal(batch['label_B'], want)
  np.testing.assert_array_equal(batch['ids_BL'], columns['ids_BL'][np.array(want)])


def test_unused_positions_are_cut_in_steps():
  mask = np.zeros((3, 32), np.int32)
  mask[0, :9] = 1
  out = trimmed({'mask_BL': mask, 'ids_BL': mask + 5, 'label_B': np.zeros(3)})
  assert out['mask_BL'].shape == out['ids_BL'].shape == (3, 16)
  assert out['label_B'].shape == (3,)
  assert trimmed({'mask_BL': np.ones((1, 30))})['mask_BL'].shape == (1, 30)


def test_columns_are_cut_by_the_axes_of_their_names():
  mask = np.zeros((3, 16), np.int32)
  mask[:, :5] = 1
  columns = {
    'mask_BL': mask,
    'answer_BA': np.ones((3, 16)),
    'states_BLD': np.ones((3, 16, 16)),
    'label_B': np.ones(3),
  }
  shapes = {
    'mask_BL': (3, 8),
    'answer_BA': (3, 16),
    'states_BLD': (3, 8, 16),
    'label_B': (3,),
  }
  assert {name: x.shape for name, x in trimmed(columns).items()} == shapes
  stacked = {name: x[None] for name, x in columns.items()}
  out = cut_to_bucket(stacked, (8,))
  assert {name: x.shape[1:] for name, x in out.items()} == shapes


def test_missing_rows_are_zeros():
  out = padded({'x': np.ones((5, 2))}, 4, 3)['x']
  assert out.tolist() == [[1, 1], [0, 0], [0, 0]]


def test_batches_of_like_length_come_in_no_order_of_length():
  lengths_N = np.random.default_rng(1).permutation(400)
  order = epoch_order(400, 0, 0, 8, lengths_N)
  # All 50 batches were sorted together: in their order the means would only rise.
  mean_T = lengths_N[order].reshape(50, 8).mean(axis=1)
  rises = np.mean(np.diff(mean_T) > 0)
  assert 0.2 < rises < 0.8
