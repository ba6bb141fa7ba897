"""Tests ../../adapad_jax/lowrank/svd.py against a dense SVD."""

import jax
import numpy as np

from adapad_jax.lowrank import LowRank
from adapad_jax.lowrank.svd import by_singular_values


def test_prefixes_are_the_best_approximations():
  rng = np.random.default_rng(0)
  draw = lambda *s: rng.normal(size=s).astype('f4')
  given = {name: LowRank(draw(4, 9), draw(4, 7)) for name in 'ab'}
  given['c'] = LowRank(draw(4, 5), draw(4, 12))
  found = jax.device_get(jax.jit(by_singular_values)(given))
  assert list(found) == list(given)
  for name, one in given.items():
    dense = one.a_RI.T @ one.b_RO
    u, s, v = np.linalg.svd(dense)
    for k in range(5):
      best = (u[:, :k] * s[:k]) @ v[:k]
      got = found[name].a_RI[:k].T @ found[name].b_RO[:k]
      np.testing.assert_allclose(got, best, atol=1e-5)


def test_missing_components_come_last_and_are_zero():
  rng = np.random.default_rng(1)
  b_RO = rng.normal(size=(3, 6)).astype('f4')
  b_RO[[0, 2]] = 0
  one = LowRank(rng.normal(size=(3, 8)).astype('f4'), b_RO)
  found = jax.device_get(by_singular_values({'m': one}))['m']
  dense = one.a_RI.T @ one.b_RO
  np.testing.assert_allclose(found.a_RI[:1].T @ found.b_RO[:1], dense, atol=1e-5)
  np.testing.assert_allclose(found.b_RO[1:], 0, atol=1e-5)
  nothing = by_singular_values({'m': LowRank(one.a_RI, np.zeros_like(b_RO))})
  assert not np.any(jax.device_get(nothing)['m'].b_RO)
