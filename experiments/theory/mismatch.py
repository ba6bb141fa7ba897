"""Mismatches of deflation targets on planted data, and the rates read off them.

The theorem of arXiv:2605.10741 bounds the mismatch of worker k in round l >= s_k by
6 (l - s_k + 2) m_k^(l - s_k + 1).
"""

import dataclasses
from typing import Any

import numpy as np

from adapad_jax.regression import Schedule, fit, planted

Data = tuple[np.ndarray, np.ndarray]


def even_gaps(size: int, terms: int, gap: float, seed: int, condition: float) -> Data:
  """Inputs and outputs whose singular values have one relative gap, from 1 down."""
  sigma_R = planted.exponential(terms, gap)
  return planted.exact_design(sigma_R, 2 * size, size, size, seed, condition)


def mismatches(
  data: Data, rank: int, schedule: Schedule, seed: int, **more: Any
) -> np.ndarray:
  """mismatch_LR of parallel deflation in float64."""
  fitted = fit(
    *data, rank, schedule=schedule, dtype='float64', seed=seed, measure_mismatch=True,
    **more,
  )  # fmt: skip
  return fitted.mismatch_LR


@dataclasses.dataclass(frozen=True)
class Decay:
  """A straight line in log scale: constant * rate^l in rounds start..end - 1."""

  rate: float
  constant: float
  start: int
  end: int


def fit_decay(value_L: np.ndarray, high: float, low: float) -> Decay:
  """The line through the last fall of a curve from `high` to `low`.

  NaN where the curve does not get from one to the other in three rounds or more.
  """
  above_L = np.flatnonzero(value_L > high)
  first = above_L[-1] + 1 if above_L.size else 0
  below_L = np.flatnonzero(value_L[first:] < low)
  end = first + below_L[0] if below_L.size else len(value_L)
  rounds_L = np.arange(first, end)
  if not below_L.size or rounds_L.size < 3:
    return Decay(np.nan, np.nan, int(first), int(end))
  slope, offset = np.polyfit(rounds_L, np.log(value_L[first:end]), 1)
  return Decay(float(np.exp(slope)), float(np.exp(offset)), int(first), int(end))


def bound(rate: float, warmup: int, rounds: int) -> np.ndarray:
  """6 (l - s + 2) m^(l - s + 1) for l = 0..rounds - 1, NaN before s."""
  since_L = np.arange(rounds) - float(warmup)
  with np.errstate(over='ignore', invalid='ignore'):
    value_L = 6 * (since_L + 2) * rate ** (since_L + 1)
  return np.where(since_L >= 0, value_L, np.nan)


def fit_warmup(value_L: np.ndarray, decay: Decay) -> int:
  """The least s with which the bound holds from s to the end of the fitted part.

  -1 where the rate is unknown.
  """
  if np.isnan(decay.rate):
    return -1
  for warmup in range(decay.end):
    limit_L = bound(decay.rate, warmup, decay.end)[warmup:]
    if (value_L[warmup : decay.end] <= limit_L).all():
      return warmup
  return decay.end


def holds_later(value_L: np.ndarray, decay: Decay, warmup: int, floor: float) -> bool:
  """Whether the bound also holds after the part it was fitted to, above rounding."""
  limit_L = bound(decay.rate, warmup, len(value_L))[decay.end :]
  later_L = value_L[decay.end :]
  return bool((later_L <= np.maximum(limit_L, floor)).all())
