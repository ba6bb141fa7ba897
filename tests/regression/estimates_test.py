"""Errors read off small matrices against the outer products themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.regression.estimates import Estimate, mismatches, moved, objectives
from adapad_jax.regression.fit import precision

COUNT, INPUTS, OUTPUTS, RANK = 20, 6, 5, 4


@pytest.fixture(scope='module')
def x_NI():
  return np.random.default_rng(0).normal(size=(COUNT, INPUTS))


def estimate(x_NI, a_SI, b_SO):
  g_SI = jnp.asarray(a_SI @ x_NI.T @ x_NI)
  return Estimate(jnp.asarray(a_SI), jnp.asarray(b_SO), jnp.zeros(RANK), g_SI)


@jax.jit
def measured(now, past, visible_S):
  yy = jnp.float64(3.0)
  return (
    moved(now, past),
    mismatches(now, past, visible_S),
    objectives(yy, now, visible_S),
  )


def draw(seed):
  random = np.random.default_rng(seed)
  return random.normal(size=(RANK, INPUTS)), random.normal(size=(RANK, OUTPUTS))


def pairs():
  a_SI, b_SO = draw(1)
  other_a_SI, other_b_SO = draw(2)
  across_SO = np.eye(OUTPUTS)[:RANK]
  return {
    'unrelated': ((a_SI, b_SO), (other_a_SI, other_b_SO)),
    'the same': ((a_SI, b_SO), (a_SI, b_SO)),
    'opposite signs': ((a_SI, b_SO), (-a_SI, -b_SO)),
    'another scale': ((a_SI, b_SO), (a_SI * 7 + 1e-7, b_SO / 7)),
    'orthogonal outputs': ((a_SI, across_SO), (other_a_SI, np.roll(across_SO, 1, 0))),
    'nearly orthogonal outputs': (
      (a_SI, across_SO),
      (other_a_SI, np.roll(across_SO, 1, 0) + 1e-14 * across_SO),
    ),
    'zero now': ((a_SI, 0 * b_SO), (other_a_SI, other_b_SO)),
    'zero before': ((a_SI, b_SO), (other_a_SI, 0 * other_b_SO)),
  }


@pytest.mark.parametrize('name', pairs())
def test_moves_and_mismatches(name, x_NI):
  (a_SI, b_SO), (past_a_SI, past_b_SO) = pairs()[name]
  terms_SNO = np.einsum('ni,si,so->sno', x_NI, a_SI, b_SO)
  past_SNO = np.einsum('ni,si,so->sno', x_NI, past_a_SI, past_b_SO)
  visible_S = np.array([True, True, False, True])
  gap_SNO = np.cumsum(terms_SNO * visible_S[:, None, None] - past_SNO, 0)
  with precision('float64'):
    now, past = estimate(x_NI, a_SI, b_SO), estimate(x_NI, past_a_SI, past_b_SO)
    got_moved_S, got_gap_S, got_value_S = measured(now, past, visible_S)
  size = np.linalg.norm(terms_SNO) + np.linalg.norm(past_SNO)
  norm = lambda z_SNO: np.linalg.norm(z_SNO, axis=(1, 2))
  np.testing.assert_allclose(
    got_moved_S, norm(terms_SNO - past_SNO), rtol=1e-9, atol=1e-14 * size
  )
  want_gap_S = np.append(0, norm(gap_SNO)[:-1])
  np.testing.assert_allclose(got_gap_S, want_gap_S, rtol=1e-7, atol=1e-13 * size)
  total_SNO = np.cumsum(terms_SNO * visible_S[:, None, None], 0)
  np.testing.assert_allclose(  # without the term in Y, whose gain is zero here
    got_value_S, 1.5 + 0.5 * norm(total_SNO) ** 2, rtol=1e-9
  )
