"""Singular values in equal pairs: parallel against sequential deflation.

python -m experiments.self_correction.pairs
"""

import dataclasses
import pathlib
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from adapad_jax.regression import Schedule, fit, planted, sequential_fit
from experiments import figures
from experiments.record import record

FOLDER = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes of the experiment."""

  seeds: int = 10
  size: int = 48
  ranks: tuple[int, ...] = (8, 12)
  gap: float = 0.3
  rounds: int = 24


def data(settings: Settings, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Planted data: neighbouring pairs of singular values are one `gap` apart."""
  sigma_R = np.repeat(planted.exponential(rank // 2 + 2, settings.gap), 2)
  size = settings.size
  return planted.exact_design(sigma_R, 2 * size, size, size, seed, condition=10)


def excess(y_NO: np.ndarray, rank: int, fitted_NO: np.ndarray) -> float:
  """Squared distance to the best fit of that rank, as a share of ||Y||^2."""
  u_NK, sigma_K, v_KO = np.linalg.svd(y_NO, full_matrices=False)
  best_NO = (u_NK[:, :rank] * sigma_K[:rank]) @ v_KO[:rank]
  return float(np.sum(np.square(fitted_NO - best_NO)) / np.sum(np.square(y_NO)))


def both(settings: Settings, rank: int, seed: int) -> tuple[float, float]:
  """`excess` of (parallel, sequential), as many rounds for every component."""
  x_NI, y_NO = data(settings, rank, seed)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', ConvergenceWarning)  # Short on purpose.
    ours = fit(
      x_NI, y_NO, rank, schedule=Schedule(rounds=settings.rounds), dtype='float64',
      seed=seed,
    )  # fmt: skip
    theirs = sequential_fit(
      x_NI, y_NO, (settings.rounds,) * rank, dtype='float64', seed=seed
    )
  one = lambda fitted: excess(y_NO, rank, fitted.predict(x_NI))
  return one(ours), one(theirs)


def main(settings: Settings, folder: pathlib.Path) -> None:
  """Measures and records."""
  for rank in settings.ranks:
    found_S2 = np.array([both(settings, rank, s) for s in range(settings.seeds)])
    for name, value_S in zip(('parallel', 'sequential'), found_S2.T, strict=True):
      record(
        folder, f'paired singular values, distance to the best fit, {name}',
        np.median(value_S), 'share of ||Y||^2', rank=rank, rounds=settings.rounds,
        **figures.spread(value_S),
      )  # fmt: skip


if __name__ == '__main__':
  main(Settings(), FOLDER)
