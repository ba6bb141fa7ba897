"""Rank discovery against data of known rank and noise."""

import sys

import numpy as np
import pytest
from scipy import stats

from adapad_jax.regression import Schedule, discover, fit
from adapad_jax.regression.discovery import noise_floor

COUNT, INPUTS, OUTPUTS = 200, 8, 7


def data(rank, noise, seed):
  draw = np.random.default_rng(seed)
  x_NI = draw.normal(size=(COUNT, INPUTS))
  right_OR = np.linalg.qr(draw.normal(size=(OUTPUTS, OUTPUTS)))[0][:, :rank]
  left_IR = np.linalg.qr(draw.normal(size=(INPUTS, INPUTS)))[0][:, :rank]
  w_OI = (right_OR * np.geomspace(2, 0.5, OUTPUTS)[:rank]) @ left_IR.T
  return x_NI, x_NI @ w_OI.T + noise * draw.normal(size=(COUNT, OUTPUTS))


@pytest.mark.parametrize('rank', [0, 1, 3, 6])
@pytest.mark.parametrize('given', [True, False])
def test_the_rank_of_the_data_is_found(rank, given):
  for seed in range(4):
    x_NI, y_NO = data(rank, 0.2, seed)
    got = discover(x_NI, y_NO, 6, noise=0.2 if given else None, seed=seed)
    assert got.active == rank
    assert got.weight().shape == (OUTPUTS, INPUTS)


def test_data_without_noise_have_their_full_rank():
  got = discover(*data(3, 0.0, 0), 6)
  assert got.active == 3


def test_components_that_drown_in_noise_are_left_out():
  ranks = [discover(*data(6, noise, 1), 6).active for noise in (0.1, 1.0, 3.0, 30.0)]
  assert ranks == sorted(ranks, reverse=True)
  assert ranks[0] == 6 and 0 < ranks[2] < 6 and ranks[3] == 0


def test_noise_exceeds_the_floor_as_often_as_said():
  draw = np.random.default_rng(0)
  noise_SOI = 0.5 * draw.normal(size=(4000, OUTPUTS, INPUTS))
  top_S = np.linalg.norm(noise_SOI, 2, axis=(1, 2)) ** 2
  share = np.mean(top_S > noise_floor(0.5, INPUTS, OUTPUTS, 0.05))
  assert 0.03 < share < 0.07
  # The quantile printed in tables of the law (Bejan 2005).
  quantile = stats.gamma.ppf(0.95, a=46.446, scale=0.186054) - 9.84801
  assert quantile == pytest.approx(0.979, abs=0.005)


def test_noise_must_be_known_when_it_cannot_be_estimated():
  x_NI, y_NO = data(1, 0.1, 0)
  with pytest.raises(ValueError, match='pass noise='):
    discover(x_NI[:5], y_NO[:5], 2)


@pytest.mark.parametrize('centred', [False, True])
def test_means_that_were_subtracted_take_a_degree_of_freedom(centred, monkeypatch):
  x_NI, y_NO = data(0, 0.5, 0)
  x_NI, y_NO = x_NI[: INPUTS + 3], y_NO[: INPUTS + 3]
  if centred:
    x_NI, y_NO = x_NI - x_NI.mean(0), y_NO - y_NO.mean(0)
  left = np.linalg.lstsq(x_NI, y_NO, rcond=None)[1].sum()
  module, asked = sys.modules['adapad_jax.regression.discovery'], []
  monkeypatch.setattr(module, 'noise_floor', lambda *given: asked.append(given) or 1e9)
  discover(x_NI, y_NO, 1, centred=centred, dtype='float64')
  assert asked[0][0] == pytest.approx(np.sqrt(left / ((3 - centred) * OUTPUTS)))
  if centred:
    with pytest.raises(ValueError, match='pass noise='):
      discover(x_NI[: INPUTS + 1], y_NO[: INPUTS + 1], 1, centred=True)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [({'level': 0.0}, 'level=0.0'), ({'noise': -1.0}, 'noise=-1.0')],
)
def test_bad_settings_are_named(settings, message):
  with pytest.raises(ValueError, match=message):
    discover(*data(1, 0.1, 0), 2, **settings)


def test_a_plain_fit_points_to_discovery():
  with pytest.raises(ValueError, match='use `discover`'):
    fit(*data(1, 0.1, 0), 2, schedule=Schedule(activation='above_noise'))
  with pytest.raises(ValueError, match='needs advance'):
    Schedule(activation='above_noise', advance=False)
