"""Tests ../../adapad_jax/training/batches.py and logs.py."""

import numpy as np

from adapad_jax.training.batches import batch_rows, padded, round_batch, trimmed
from adapad_jax.training.logs import JsonLines, read_lines


def test_every_epoch_visits_every_row_once_in_an_order_of_its_own():
  rows = np.concatenate([batch_rows(10, 4, step, seed=3) for step in range(5)])
  first, second = rows[:10], rows[10:]
  assert sorted(first) == sorted(second) == list(range(10))
  assert list(first) != list(second)
  assert list(batch_rows(10, 4, 3, seed=3)) == list(rows[12:16])
  assert list(batch_rows(10, 4, 3, seed=4)) != list(rows[12:16])


def test_a_round_takes_its_batches_in_shard_order():
  columns = {'ids_BL': np.arange(20).reshape(10, 2), 'label_B': np.arange(10)}
  batch = round_batch(columns, 2, local_steps=2, batch=4, seed=0, shards=2)
  assert batch['ids_BL'].shape == (2, 4, 2)
  want = [batch_rows(10, 4, step, 0)[[0, 2, 1, 3]] for step in (2, 3)]
  np.testing.assert_array_equal(batch['label_B'], want)
  np.testing.assert_array_equal(batch['ids_BL'], columns['ids_BL'][np.array(want)])


def test_unused_positions_are_cut_in_steps():
  mask = np.zeros((3, 32), np.int32)
  mask[0, :9] = 1
  out = trimmed({'mask_BL': mask, 'ids_BL': mask + 5, 'label_B': np.zeros(3)})
  assert out['mask_BL'].shape == out['ids_BL'].shape == (3, 16)
  assert out['label_B'].shape == (3,)
  assert trimmed({'mask_BL': np.ones((1, 30))})['mask_BL'].shape == (1, 30)


def test_missing_rows_are_zeros():
  out = padded({'x': np.ones((5, 2))}, 4, 3)['x']
  assert out.tolist() == [[1, 1], [0, 0], [0, 0]]


def test_a_resumed_log_drops_later_and_broken_lines(tmp_path):
  path = tmp_path / 'm.jsonl'
  log = JsonLines(path, 0)
  for step in (1, 2, 3):
    log.write(step, {'x': float('nan') if step == 1 else step})
  with path.open('a') as file:
    file.write('{"step": 4, "x"')
  assert [line['step'] for line in read_lines(path)] == [1, 2, 3]
  JsonLines(path, 2).write(3, {'x': 9})
  assert read_lines(path) == [
    {'step': 1, 'x': None},
    {'step': 2, 'x': 2},
    {'step': 3, 'x': 9},
  ]
  assert JsonLines(path, 0) and read_lines(path) == []
