"""Frames: white coordinates of regular, singular and badly scaled inputs."""

import numpy as np
import pytest

from adapad_jax.regression.frame import make_frame, reciprocal_condition


def inputs(rank, size=6, seed=1):
  draw = np.random.default_rng(seed)
  return draw.normal(size=(20, rank)) @ draw.normal(size=(rank, size))


@pytest.mark.parametrize('rank', [6, 4, 1, 0])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_a_frame_squares_to_the_pseudo_inverse(rank, dtype):
  x_NI = inputs(rank)
  s_II = x_NI.T @ x_NI
  frame = make_frame(s_II, dtype)
  assert frame.rank == rank and (frame.lower_II is not None) == (rank == 6)
  t_II = frame.whiten(np.eye(6))  # rows e_i T
  want_II = np.linalg.pinv(s_II, rcond=1e-9, hermitian=True)
  scale = np.abs(want_II).max() or 1
  np.testing.assert_allclose(t_II @ t_II.T / scale, want_II / scale, atol=1e-8)
  np.testing.assert_allclose(frame.restore(t_II) / scale, want_II / scale, atol=1e-8)
  # In its coordinates the data are white, in the directions that they have.
  np.testing.assert_allclose(
    t_II.T @ s_II @ t_II, np.diag(np.arange(6) < rank), atol=1e-8
  )


@pytest.mark.parametrize('rank', [6, 4])
def test_entering_a_frame_is_the_way_back_from_it(rank):
  x_NI = inputs(rank)
  frame = make_frame(x_NI.T @ x_NI, 'float64')
  a_RI = np.random.default_rng(2).normal(size=(3, 6))
  seen_RI = a_RI @ np.linalg.pinv(x_NI) @ x_NI  # what the data show of it
  np.testing.assert_allclose(frame.restore(frame.enter(a_RI)), seen_RI, atol=1e-10)


@pytest.mark.parametrize('rank', [6, 4])
def test_units_of_the_inputs_do_not_matter(rank):
  x_NI, y_NO = inputs(rank), np.random.default_rng(3).normal(size=(20, 2))
  units_I = 10.0 ** np.array([0, -9, 4, 9, -3, 0])
  fitted = []
  for z_NI in (x_NI, x_NI * units_I):
    frame = make_frame(z_NI.T @ z_NI, 'float32')
    assert frame.rank == rank
    fitted.append(z_NI @ frame.restore(frame.whiten(y_NO.T @ z_NI)).T)
  np.testing.assert_allclose(fitted[1], fitted[0], atol=1e-6)


def test_the_last_digit_of_float32_is_noise():
  x_NI = inputs(6)
  x_NI[:, 5] = x_NI[:, 0] * (1 + 1e-8 * np.random.default_rng(0).normal(size=20))
  assert make_frame(x_NI.T @ x_NI, 'float32').rank == 5
  # Nor is what float64 has left of it after squaring.
  assert make_frame(x_NI.T @ x_NI, 'float64').rank == 5
  x_NI[:, 5] = x_NI[:, 0] * (1 + 1e-6 * np.random.default_rng(0).normal(size=20))
  assert make_frame(x_NI.T @ x_NI, 'float32').rank == 6


def test_the_reciprocal_condition_is_that_of_scaled_inputs():
  x_NI = inputs(6)
  x_NI[:, 5] = x_NI[:, 0] + 0.03 * x_NI[:, 5]
  s_II = x_NI.T @ x_NI
  scale_I = 1 / np.sqrt(np.diag(s_II))
  want = 1 / np.linalg.cond(scale_I[:, None] * s_II * scale_I, 1)
  units_I = 10.0 ** np.array([0, -9, 4, 9, -3, 0])
  for unit_I in (np.ones(6), units_I):
    got = reciprocal_condition(unit_I[:, None] * s_II * unit_I)
    assert got == pytest.approx(want, rel=0.01)
  assert reciprocal_condition(np.ones((3, 3))) < 1e-6
  assert reciprocal_condition(np.diag([4.0, 0.0, 9.0])) == pytest.approx(1)
  assert reciprocal_condition(np.zeros((2, 2))) == 1
