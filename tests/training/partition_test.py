"""Tests ../../adapad_jax/training/partition.py: workers with data of their own."""

import numpy as np
import pytest

from adapad_jax.methods import Private
from adapad_jax.training import finetune_config, make_plan, train
from adapad_jax.training.batches import Order
from adapad_jax.training.partition import (
  PartitionedOrder,
  by_index,
  by_label,
  make_order,
)
from adapad_jax.workdir import read_lines
from tests import tiny

LABELS = np.repeat(np.arange(3, dtype=np.int32), 40)


def test_parts_by_index_hold_every_row_once_and_are_even():
  parts = by_index(10, 4, seed=0)
  assert sorted(np.concatenate(parts)) == list(range(10))
  assert sorted(map(len, parts)) == [2, 2, 3, 3]


def test_more_workers_than_rows_are_refused():
  with pytest.raises(ValueError, match='3 training rows cannot be divided among 4'):
    by_index(3, 4, seed=0)


def unevenness(skew):
  """Mean distance of a worker's label frequencies from a third."""
  parts = by_label(LABELS, 4, skew, seed=1, least=4)
  assert sorted(np.concatenate(parts)) == list(range(len(LABELS)))
  assert min(map(len, parts)) >= 4
  seen = [np.bincount(LABELS[part], minlength=3) / len(part) for part in parts]
  return np.abs(np.array(seen) - 1 / 3).mean()


def test_a_small_parameter_spreads_labels_unevenly():
  assert unevenness(0.2) > 2 * unevenness(100.0)


def test_a_division_that_leaves_somebody_short_is_refused():
  with pytest.raises(ValueError, match=r'adapad.skew=0.001 gives everybody 20 rows'):
    by_label(LABELS, 4, 0.001, seed=0, least=20)
  with pytest.raises(ValueError, match='labels are float64'):
    by_label(LABELS / 2, 4, 1.0, seed=0, least=1)


def test_a_worker_sees_its_part_alone_and_all_of_it():
  parts = by_label(LABELS, 4, 0.5, seed=1, least=6)
  order = PartitionedOrder(parts, 24, seed=0)
  seen = [set() for _ in parts]
  for step in range(40):
    for k, rows in enumerate(order.batch(step).reshape(4, 6)):
      seen[k] |= set(rows.tolist())
  assert seen == [set(part.tolist()) for part in parts]


def test_workers_go_through_equal_parts_in_different_orders():
  same = np.arange(50)
  rows_KB = PartitionedOrder([same, same], 20, seed=0).batch(0).reshape(2, 10)
  assert (rows_KB[0] != rows_KB[1]).any()


def test_the_order_follows_from_the_method():
  columns = {'ids_BL': np.zeros((120, 2)), 'label_B': LABELS}
  assert isinstance(make_order(None, columns, 24, 0), Order)
  even = make_order(Private(4, 0.0), columns, 24, 0)
  uneven = make_order(Private(4, 0.3), columns, 24, 0)
  first = [np.bincount(LABELS[o.batch(0)[:6]], minlength=3) for o in (even, uneven)]
  assert len(even.batch(0)) == len(uneven.batch(0)) == 24
  assert not np.array_equal(*first)


def test_classes_are_needed_to_skew():
  with pytest.raises(ValueError, match=r'adapad.skew=0.3 spreads classes'):
    make_order(Private(4, 0.3), {'ids_BL': np.zeros((120, 2))}, 24, 0)


@pytest.mark.parametrize(
  ('data', 'workers', 'skew', 'match'),
  [
    ({'max_train_rows': 3}, 4, 0.0, '3 training rows cannot be divided among 4 work'),
    ({}, 4, 1e-3, r'no division of \d+ rows .*adapad.skew=0.001 gives everybody'),
  ],
)
def test_data_that_cannot_be_divided_are_refused_before_the_workdir_is_claimed(
  tmp_path, data, workers, skew, match
):
  tiny.make_data(tmp_path)
  adapad = dict(feeding='federated', skew=skew, r_max=workers)
  values = tiny.values(tmp_path, adapad=adapad)
  values['data'] |= data
  config = finetune_config(values)
  with pytest.raises(ValueError, match=match):
    make_plan(config)
  with pytest.raises(ValueError, match=match):
    train(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_a_federated_run_has_the_same_numbers_on_workers_of_their_own(tmp_path):
  tiny.make_data(tmp_path)
  losses = []
  for mesh in ({'worker': 1, 'data': 1}, {'worker': 2, 'data': 2}):
    adapad = dict(feeding='federated', skew=0.5, r_max=4, head_rows='all')
    adapad |= dict(start=1, interval=1, local_steps=2)
    values = tiny.values(tmp_path, adapad=adapad, mesh=mesh)
    values['train'] |= {'steps': 12, 'evaluations': 1}
    workdir = tmp_path / f'{mesh["worker"]}'
    result = train(finetune_config(values), workdir)
    lines = read_lines(workdir / 'metrics.jsonl')
    losses.append([x['train/loss'] for x in lines if 'train/loss' in x])
    # A component of every module takes in + out numbers, all padded to the widest:
    # 12 x 48; the head 306; 3 by worker, 1 by module and 2 statistics.
    assert result['bytes_sent_per_round'] == 4 * (12 * 48 + 306 + 12 + 12 + 2)
  assert len(losses[0]) == 6
  np.testing.assert_allclose(*losses, rtol=1e-4)
