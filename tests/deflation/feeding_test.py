"""Tests ../../adapad_jax/deflation/feeding.py."""

import dataclasses

import jax
import numpy as np
import pytest

from adapad_jax.deflation.feeding import make_feeding
from adapad_jax.deflation.settings import AdaPaDSettings
from adapad_jax.sharding import shard_order


def feeding(batch=32, rounds=10, **settings):
  settings = dict(joint=0.0, polish=0.0) | settings
  return make_feeding(AdaPaDSettings(**settings), batch, rounds)


@pytest.mark.parametrize('shares', ['equal', 'first'])
@pytest.mark.parametrize('live', [1, 2, 3, 4])
def test_live_workers_share_every_row(shares, live):
  counts = feeding(30, shares=shares).counts(live)
  assert counts.sum() == 30 and len(counts) == live
  assert counts.max() - counts.min() <= 1 or shares == 'first'
  assert list(counts) == sorted(counts, reverse=True) or shares == 'equal'


@pytest.mark.parametrize(
  'mode, joint, step, nested',
  [
    ('split', 0.0, 0, 0.0),
    ('split', 0.5, 0, 0.0),
    ('split', 0.5, 3, 0.5),
    ('split', 0.95, 0, 0.0),
    ('split', 0.95, 7, 1.0),
    ('replicate', 0.0, 0, 0.0),
    ('federated', 0.0, 0, 0.0),
  ],
)
@pytest.mark.parametrize('blocks, shards', [(1, 1), (4, 1), (2, 2), (1, 4)])
@pytest.mark.parametrize('live', [1, 3, 4])
def test_every_row_goes_to_its_workers_on_every_mesh(
  mode, joint, step, nested, blocks, shards, live
):
  fed = feeding(48, feeding=mode, joint=joint, nested=nested)
  capacity, own_rows = fed.capacity(blocks, shards), fed.own_rows_at(0)
  mesh = jax.sharding.AbstractMesh((blocks, shards), ('worker', 'data'))
  order_g, seen = fed.rows(mesh).order_B, set()
  for w in range(blocks):
    for d in range(shards):
      slots = fed.slots(live, own_rows, blocks, shards, w, d, capacity, step)
      rows, owners = np.asarray(slots.row_C), np.asarray(slots.owner_C)
      for i in np.flatnonzero(slots.valid_C):
        # Contiguous shard of the laid-out batch that this device holds.
        device = w * shards + d if mode == 'federated' else d
        devices = blocks * shards if mode == 'federated' else shards
        g = int(order_g[device * (48 // devices) + int(rows[i])])
        pair = g, int(owners[i])
        assert slots.joint_C[i] == (g >= own_rows)
        if not slots.joint_C[i]:
          assert owners[i] // (4 // blocks) == w, 'a device computes its own workers'
        assert pair not in seen
        seen.add(pair)
        place = g % 12 if mode == 'federated' else g
        assert slots.number_C[i] == place, 'noise is the same on every mesh'
  if mode == 'federated':
    assert seen == {(g, g // 12) for g in range(12 * live)}
  elif mode == 'replicate':
    assert seen == {(g, k) for g in range(48) for k in range(live)}
  else:
    joint_g = fed.last_trained_at(live, own_rows, step)
    owner_g = np.where(np.arange(48) < own_rows, fed.owners_at(live, step), joint_g)
    assert seen == {(g, int(owner_g[g])) for g in range(48)}


def test_rates_are_in_proportion_to_the_rows_that_train():
  """8 of 32 rows are two each of four workers; the others are joint, half nested."""
  fed, workers = feeding(32, joint=0.75, nested=0.5), np.arange(4)
  active, advance = fed.rate_factors(workers, 4, fed.own_rows)
  joint = 24 * (0.5 + 0.5 * np.array([3, 2, 1, 1]) / 3)
  np.testing.assert_allclose(active, (joint + 2) / 26, rtol=1e-6)
  np.testing.assert_allclose(advance, [2 / 26] * 4, rtol=1e-6)
  # Where every row is joint, what learns in advance has none.
  active, advance = fed.rate_factors(workers, 4, 0)
  np.testing.assert_allclose(active, joint / 24, rtol=1e-6)
  assert not advance.any()


def test_shares_that_would_not_be_read_are_refused():
  settings = AdaPaDSettings(shares='first', r_max=5, joint=0.75)
  message = "'first' gives .* only 4 of 16 rows are shared out, which 5 workers .* turn"
  with pytest.raises(ValueError, match=message):
    settings.require_shares(16)
  settings.require_shares(20)
  dataclasses.replace(settings, r_max=4).require_shares(16)
  # A run of before is opened, in which all workers had as many.
  fed = feeding(16, shares='first', r_max=5, joint=0.75)
  factors, _ = fed.rate_factors(np.arange(5), 5, fed.own_rows)
  np.testing.assert_allclose(factors, 1)


@pytest.mark.parametrize('batch, live', [(8, 4), (8, 7), (8, 8), (9, 8)])
def test_no_worker_is_without_a_row_where_there_are_enough(batch, live):
  fed = feeding(batch, shares='first', r_max=8, joint=0.0)
  counts = fed.counts(live)
  assert counts.min() >= 1 and counts.sum() == batch


def test_rates_follow_unequal_shares():
  """Of 12 own rows and 12 joint ones."""
  fed = feeding(24, shares='first', joint=0.5, r_max=3)
  own = fed.counts(3)
  assert own[0] > own[2] and not fed.takes_turns
  active, advance = fed.rate_factors(np.arange(3), 3, fed.own_rows)
  np.testing.assert_allclose(active, (12 + own) / (12 + own[0]), rtol=1e-6)
  np.testing.assert_allclose(advance, own / (12 + own[0]), rtol=1e-6)
  active, advance = fed.rate_factors(np.arange(3), 3, 0)
  assert (active == 1).all() and not advance.any()


@pytest.mark.parametrize('mode', ['split', 'replicate', 'federated'])
def test_without_joint_rows_rates_are_as_they_are(mode):
  fed = feeding(32, feeding=mode)
  for factors in fed.rate_factors(np.arange(4), 3, fed.own_rows_at(0)):
    assert (factors == 1).all()


@pytest.mark.parametrize('live', [1, 2, 3, 4])
def test_workers_take_turns_at_fewer_rows(live):
  """Two rows for four workers: in any `live` rounds all have as many."""
  fed = feeding(8, joint=0.75)
  assert fed.takes_turns and not feeding(16, joint=0.75).takes_turns
  rounds = [np.asarray(fed.owners_at(live, step))[:2] for step in range(3, 3 + live)]
  counts = np.bincount(np.concatenate(rounds), minlength=live)
  assert counts.tolist() == [2] * live
  assert len({tuple(one.tolist()) for one in rounds}) == live


def test_shards_hold_rows_of_every_worker():
  order = shard_order(8, 2)
  assert order.tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
  with pytest.raises(ValueError, match=r'data axis of 3 .* choose .* \[1, 2, 4, 8\]'):
    shard_order(8, 3)


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'feeding': 'spilt'}, "unknown adapad.feeding 'spilt'; did you mean 'split'"),
    ({'shares': 'last'}, "unknown adapad.shares 'last'; .*choose from"),
    ({'joint': 0.99}, 'all 32 of a batch are joint: use a larger batch'),
    ({'joint': 1.1}, 'adapad.joint must be in .0, 1., got 1.1'),
    ({'polish': -0.1}, 'adapad.polish must be in .0, 1., got -0.1'),
    (
      {'joint': 0.5, 'feeding': 'replicate'},
      "adapad.joint=0.5 needs adapad.feeding='split'",
    ),
    ({'feeding': 'federated', 'batch': 30}, 'no multiple of 4 workers'),
    ({'nested': 1.5, 'joint': 0.5}, 'adapad.nested must be in .0, 1., got 1.5'),
    ({'nested': 0.5}, 'adapad.joint and adapad.polish are 0'),
    ({'joint': 1.0}, 'joint=1.0 leaves no worker a row .* set adapad.nested'),
    (
      {'nested': 0.5, 'local_steps': 2, 'joint': None, 'polish': None},
      'nested=0.5 is a part of the joint rows, which need adapad.local_steps=1, got 2',
    ),
    (
      {'nested': 0.5, 'joint': None, 'feeding': 'replicate'},
      "adapad.nested=0.5 needs adapad.feeding='split'",
    ),
    ({'joint': 0.5, 'local_steps': 2}, 'need adapad.local_steps=1, got 2'),
    (
      {'shares': 'first', 'feeding': 'replicate'},
      "adapad.shares='first' shares out .* must be 'equal' where that is 'replicate'",
    ),
    ({'skew': 0.5}, "must be 0 unless adapad.feeding is 'federated'"),
  ],
)
def test_bad_settings_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    feeding(**fields)


@pytest.mark.parametrize(
  'fields, batch, parts',
  [
    ({}, 32, (0.75, 0.25)),
    ({'r_max': 8}, 16, (0.75, 0.25)),
    ({'r_max': 4}, 4, (0.75, 0.25)),
    ({'r_max': 4}, 2, (0.5, 0.25)),
    ({'r_max': 4}, 1, (0.0, 0.25)),
    ({'joint': 0.0}, 32, (0.0, 0.25)),
    ({'nested': 0.5}, 32, (0.75, 0.25)),
    ({'nested': 1.0}, 32, (1.0, 0.25)),
    ({'polish': 0.0}, 32, (0.75, 0.0)),
    ({'local_steps': 2}, 32, (0.0, 0.0)),
    ({'feeding': 'replicate'}, 32, (0.0, 0.0)),
    ({'feeding': 'federated'}, 32, (0.0, 0.0)),
  ],
)
def test_joint_parts_that_are_left_open(fields, batch, parts):
  found = AdaPaDSettings(**fields).resolve(6, 50, batch)
  assert (found.joint, found.polish) == parts
  make_feeding(found, batch, 50)


def test_nothing_learns_in_advance_where_no_row_is_a_workers_own():
  """Be it that a fraction of the rows rounds to all of them."""
  settings = AdaPaDSettings(joint=0.99, nested=0.5)
  assert not settings.resolve(6, 50, 8).advance
  assert settings.resolve(6, 50, 200).advance
  assert not AdaPaDSettings(advance=False).resolve(6, 50, 32).advance


@pytest.mark.parametrize('shape', [(3, 1), (1, 4)])
def test_a_mesh_must_divide_workers_with_data_of_their_own(shape):
  mesh = jax.sharding.AbstractMesh(shape, ('worker', 'data'))
  with pytest.raises(ValueError, match='cannot spread 4 workers of 6 rows each'):
    feeding(24, feeding='federated').rows(mesh)


@pytest.mark.parametrize(
  'shares, live, want',
  [
    # Edges at 7.5, 15 and 22.5 rows, rounded half to even.
    ('equal', 4, [8, 7, 7, 8]),
    # 1 : 1/2 : 1/3 of 30 rows, edges at 16.4 and 24.5.
    ('first', 3, [16, 9, 5]),
    ('first', 4, [14, 8, 4, 4]),
    ('first', 1, [30]),
  ],
)
def test_rows_are_shared_as_said(shares, live, want):
  counts = feeding(30, shares=shares).counts(live)
  assert counts.tolist() == want


def test_rows_lie_in_the_order_of_their_owners():
  """By hand: 12 rows of which 4 are joint, with two live workers of three."""
  owners = feeding(12, shares='first', joint=1 / 3, r_max=3).owners()
  assert owners[1].tolist() == [0] * 12
  # 8 own rows as 2 : 1, the joint ones with the last live worker.
  assert owners[2].tolist() == [0] * 5 + [1] * 3 + [1] * 4
  assert owners[3].tolist() == [0] * 4 + [1] * 3 + [2] + [2] * 4
