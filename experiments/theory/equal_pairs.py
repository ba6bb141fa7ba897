"""Singular values in equal pairs: parallel against sequential deflation.

python -m experiments.theory.equal_pairs
"""

import dataclasses
import warnings
from collections.abc import Iterator

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from adapad_jax.regression import Schedule, fit, planted, sequential_fit
from experiments.harness import Experiment, Run, main
from experiments.results import Row, over_seeds


@dataclasses.dataclass(frozen=True)
class Options:
  """Sizes; pairs of singular values are one `gap` apart."""

  seeds: int = 10
  size: int = 48
  ranks: tuple[int, ...] = (8, 12)
  gap: float = 0.3
  rounds: int = 24


def data(options: Options, rank: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Planted data with two pairs of singular values beyond the rank."""
  sigma_R = np.repeat(planted.exponential(rank // 2 + 2, options.gap), 2)
  size = options.size
  return planted.exact_design(sigma_R, 2 * size, size, size, seed, condition=10)


def excess(y_NO: np.ndarray, rank: int, fitted_NO: np.ndarray) -> float:
  """Squared distance to the best fit of that rank, as a share of ||Y||^2."""
  u_NK, sigma_K, v_KO = np.linalg.svd(y_NO, full_matrices=False)
  best_NO = (u_NK[:, :rank] * sigma_K[:rank]) @ v_KO[:rank]
  return float(np.sum(np.square(fitted_NO - best_NO)) / np.sum(np.square(y_NO)))


def both(options: Options, rank: int, seed: int) -> tuple[float, float]:
  """`excess` of (parallel, sequential), as many rounds for every component."""
  x_NI, y_NO = data(options, rank, seed)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', ConvergenceWarning)  # Short on purpose.
    ours = fit(
      x_NI, y_NO, rank, schedule=Schedule(rounds=options.rounds), dtype='float64',
      seed=seed,
    )  # fmt: skip
    theirs = sequential_fit(
      x_NI, y_NO, (options.rounds,) * rank, dtype='float64', seed=seed
    )
  one = lambda fitted: excess(y_NO, rank, fitted.predict(x_NI))
  return one(ours), one(theirs)


def measure(run: Run, options: Options) -> Iterator[Row]:
  """The distances of both at every rank."""
  for rank in options.ranks:
    found_S2 = np.array([both(options, rank, s) for s in range(options.seeds)])
    for name, value_S in zip(('parallel', 'sequential'), found_S2.T, strict=True):
      figure = f'paired singular values, distance to the best fit, {name}'
      where = {'rank': rank, 'rounds': options.rounds}
      yield over_seeds(figure, value_S, 'share of ||Y||^2', **where)


EXPERIMENT = Experiment('theory.equal_pairs', Options(), measure)

if __name__ == '__main__':
  main(EXPERIMENT)
