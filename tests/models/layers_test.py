"""Tests ../../adapad_jax/models/layers.py: norms and what they keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.models import layers


def plain_standardised(x, eps):
  x = x.astype(jnp.float32)
  centred = x - jnp.mean(x, -1, keepdims=True)
  return centred / jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + eps)


def plain_over_rms(x, eps):
  x = x.astype(jnp.float32)
  return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + eps)


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
  """Norms keep what they do there."""
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')


NORMS = [
  (layers._standardised, plain_standardised),
  (layers._over_rms, plain_over_rms),
]


def drawn(*shape):
  x = np.random.default_rng(0).normal(0.5, 2.0, shape)
  return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('ours, plain', NORMS)
def test_gradients_are_those_of_the_plain_formula(ours, plain, dtype):
  x, dy = drawn(3, 5, 16).astype(dtype), drawn(3, 5, 16)[::-1]
  y, back = jax.vjp(lambda x: ours(x, 1e-2), x)
  expected, plain_back = jax.vjp(lambda x: plain(x, 1e-2), x)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
  wide = lambda dx: np.asarray(dx[0], np.float32)
  close = dict(rtol=1e-4, atol=1e-6) if dtype == 'float32' else dict(rtol=2**-7)
  np.testing.assert_allclose(wide(back(dy)), wide(plain_back(dy)), **close)


@pytest.mark.parametrize('ours, plain', NORMS)
def test_the_backward_pass_keeps_the_input_as_it_came(ours, plain):
  x = drawn(4, 32).astype(jnp.bfloat16)
  y, back = jax.vjp(lambda x: ours(x, 1e-5), x)
  assert y.dtype == jnp.float32
  kept = jax.tree.leaves(back)
  assert [a.dtype for a in kept if a.size == x.size] == [jnp.bfloat16]
  assert back(y)[0].dtype == jnp.bfloat16
