"""Moments: batches, centring, ridge, and the whitener of singular matrices."""

import sys

import jax
import numpy as np
import pytest

from adapad_jax.regression import moments as m
from adapad_jax.regression.fit import precision

fit = sys.modules['adapad_jax.regression.fit']  # `regression.fit` is the function


def data(count=40, inputs=6, outputs=4, seed=0):
  draw = np.random.default_rng(seed)
  return draw.normal(3, 1, (count, inputs)), draw.normal(-2, 1, (count, outputs))


@pytest.mark.parametrize('centre', [True, False])
def test_batches_merge_to_the_whole(centre):
  x_NI, y_NO = data()
  with precision('float64'):
    want = m.gather_moments(x_NI, y_NO, centre)
    got = None
    for rows in (slice(0, 3), slice(3, 4), slice(4, 40)):
      batch = m.gather_moments(x_NI[rows], y_NO[rows], centre)
      got = batch if got is None else m.merge(got, batch)
  for name in ('c_OI', 's_II', 'yy', 'count', 'mean_I', 'mean_O'):
    np.testing.assert_allclose(
      getattr(got, name), getattr(want, name), rtol=1e-10, atol=1e-12, err_msg=name
    )


@pytest.mark.parametrize('centre', [True, False])
@pytest.mark.parametrize('same', [True, False])
def test_rows_are_summed_in_pieces(centre, same, monkeypatch):
  x_NI, y_NO = data()
  y_NO = None if same else y_NO
  with precision('float64'):
    want = fit.sums(x_NI, y_NO, 1, 'float64', centre=centre)
    monkeypatch.setattr(fit, 'ROWS', 16)  # 40 rows: two pieces and a rest
    got = fit.sums(x_NI, y_NO, 1, 'float64', centre=centre)
  for name in ('c_OI', 's_II', 'yy', 'count', 'mean_I', 'mean_O'):
    np.testing.assert_allclose(
      getattr(got, name), getattr(want, name), rtol=1e-10, atol=1e-12, err_msg=name
    )


def test_decay_weights_the_past():
  x_NI, y_NO = data()
  with precision('float64'):
    old, new = (m.gather_moments(x_NI[z], y_NO[z]) for z in (slice(9), slice(9, 40)))
    got = m.merge(old, new, decay=0.25)
  scale = np.sqrt(np.where(np.arange(40) < 9, 0.25, 1))[:, None]
  np.testing.assert_allclose(got.s_II, (scale * x_NI).T @ (scale * x_NI), rtol=1e-10)
  np.testing.assert_allclose(got.c_OI, (scale * y_NO).T @ (scale * x_NI), rtol=1e-10)


def test_ridge_equals_further_examples():
  x_NI, y_NO = data()
  more_NI = np.vstack([x_NI, np.sqrt(5.0) * np.eye(6)])
  with precision('float64'):
    got = m.add_ridge(m.gather_moments(x_NI, y_NO), 5.0)
    want = m.gather_moments(more_NI, np.vstack([y_NO, np.zeros((6, 4))]))
  np.testing.assert_allclose(got.s_II, want.s_II, rtol=1e-12)
  np.testing.assert_allclose(got.c_OI, want.c_OI, rtol=1e-12)


@pytest.mark.parametrize('rank', [6, 4, 1, 0])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_whitener_squares_to_the_pseudo_inverse(rank, dtype):
  draw = np.random.default_rng(1)
  x_NI = draw.normal(size=(20, rank)) @ draw.normal(size=(rank, 6))
  s_II = (x_NI.T @ x_NI).astype(dtype)
  with precision(dtype):
    white = jax.jit(m.whitener)(s_II)
    assert int(white.rank) == rank and bool(white.regular) == (rank == 6)
    eye_II = np.eye(6, dtype=dtype)
    t_II = np.asarray(white.whiten(eye_II), np.float64)
    got_II = np.asarray(white.restore(t_II.astype(dtype)), np.float64)
  want_II = np.linalg.pinv(x_NI.T @ x_NI, rcond=1e-6, hermitian=True)
  scale = np.abs(want_II).max() or 1
  tolerance = 2e-3 if dtype == 'float32' else 1e-8
  np.testing.assert_allclose(t_II @ t_II.T / scale, want_II / scale, atol=tolerance)
  np.testing.assert_allclose(got_II / scale, want_II / scale, atol=tolerance)
