"""Tests ../../adapad_jax/deflation/live.py: fewer slots while few workers are live."""

import functools

import jax
import numpy as np
import pytest

from adapad_jax.deflation.live import LiveRounds, slots
from adapad_jax.deflation.nesting import doubling
from adapad_jax.deflation.settings import AdaPaDSettings
from tests.deflation import toy

LIMITS = (1, 2, 3)


def method(mode):
  """Two workers are live for two rounds, three for two, then four."""
  settings = dict(budget=12, start=1, interval=2, grants_per_event=3)
  return toy.method(settings=settings | dict(feeding=mode))


@functools.cache
def batches():
  return toy.data(np.random.default_rng(1), 6, 1, 24)


@functools.cache
def run(mode, mesh, limits):
  make = lambda m, mesh: LiveRounds(m, mesh, limits)
  return toy.run(method(mode), mesh, batches(), make=make)


@pytest.mark.parametrize('mode, mesh', [('replicate', (1, 1)), ('split', (4, 1))])
def test_fewer_slots_give_the_same_numbers(mode, mesh):
  want, want_history, _ = toy.run(method(mode), mesh, batches())
  got, history, rounds = run(mode, mesh, LIMITS)
  assert [int(h['live']) for h in history] == [2, 2, 3, 3, 4, 4]
  assert rounds._cache_size() == 3
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5), got, want
  )
  np.testing.assert_allclose(
    history[-1]['loss_R'], want_history[-1]['loss_R'], rtol=1e-4
  )


def test_split_on_one_device_has_nothing_to_save():
  _, _, rounds = run('split', (1, 1), LIMITS)
  assert rounds._cache_size() == 1


@pytest.mark.parametrize(
  'mode, blocks, limits, want',
  [
    ('replicate', 1, (1, 2), (24, 24, 48, 96, 96)),
    ('replicate', 2, (1, 2), (24, 24, 48, 48, 48)),
    ('replicate', 1, (4,), (96, 96, 96, 96, 96)),
    ('split', 4, (1, 2), (24, 24, 12, 8, 8)),
    ('split', 1, (1, 2), (24, 24, 24, 24, 24)),
  ],
)
def test_slots_suffice_for_every_number_of_a_range(mode, blocks, limits, want):
  mesh = jax.make_mesh((blocks, 1), ('worker', 'data'), devices=jax.devices()[:blocks])
  assert slots(method(mode), mesh, limits) == want


def test_limits_double_up_to_the_number_of_workers():
  assert [doubling(n) for n in (1, 4, 6)] == [(1,), (1, 2, 4), (1, 2, 4, 6)]


def test_a_limit_beyond_the_workers_is_refused_before_the_run():
  settings = AdaPaDSettings(budget=8, r_max=4, live_buckets=(5,))
  with pytest.raises(ValueError, match=r'live_buckets \(5,\) must lie in 1..r_max = 4'):
    settings.resolve(3, 20, 24).check(3, 20)


def test_a_state_from_elsewhere_is_read():
  """A second run by the same object starts with two live workers again."""
  first, _, rounds = run('replicate', (1, 1), LIMITS)
  again, history, _ = toy.run(
    method('replicate'), (1, 1), batches(), make=lambda m, mesh: rounds
  )
  assert rounds._cache_size() == 3 and history[0]['live'] == 2
  jax.tree.map(np.testing.assert_array_equal, again, first)
