"""Tests ../../adapad_jax/models/distances.py: scores with distances, by a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.models import distances

ROWS, LENGTH, HEADS, SIZE = 2, 5, 3, 4


def drawn(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def by_a_loop(x, table):
  """The scores, and their gradients for cotangents `d`."""
  out = np.zeros((ROWS, HEADS, LENGTH, LENGTH))
  pairs = [(i, j, j - i + LENGTH - 1) for i in range(LENGTH) for j in range(LENGTH)]
  wide = np.broadcast_to(table, (ROWS, *table.shape[1:]))
  for i, j, at in pairs:
    out[:, :, i, j] = np.einsum('bnh,bnh->bn', x[:, i], wide[:, at])

  def gradients(d):
    dx, dtable = np.zeros(x.shape), np.zeros(wide.shape)
    for i, j, at in pairs:
      dx[:, i] += d[:, :, i, j, None] * wide[:, at]
      dtable[:, at] += d[:, :, i, j, None] * x[:, i]
    return dx, dtable.sum(0, keepdims=True) if len(table) == 1 else dtable

  return out, gradients


@pytest.mark.parametrize('tables', [1, ROWS])
def test_scores_and_gradients_are_those_of_a_loop(tables):
  x = drawn(0, ROWS, LENGTH, HEADS, SIZE)
  table = drawn(1, tables, 2 * LENGTH - 1, HEADS, SIZE)
  d = drawn(2, ROWS, HEADS, LENGTH, LENGTH)
  expected, gradients = by_a_loop(np.asarray(x), np.asarray(table))
  out, back = jax.vjp(distances.scores, x, table)
  np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
  for ours, theirs in zip(back(d), gradients(np.asarray(d)), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_no_gradient_is_wide_on_a_gpu(monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  x = drawn(0, ROWS, LENGTH, HEADS, SIZE).astype(jnp.bfloat16)
  table = drawn(1, 1, 2 * LENGTH - 1, HEADS, SIZE).astype(jnp.bfloat16)
  out, back = jax.vjp(distances.scores, x, table)
  assert out.dtype == jnp.float32
  text = jax.jit(back).lower(out).as_text()
  products = [line for line in text.splitlines() if 'stablehlo.dot_general' in line]
  assert len(products) == 2
  assert not any('f32>' in line for line in products)
