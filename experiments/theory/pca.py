"""Principal components: parallel deflation against EigenGame alpha and mu.

python -m experiments.theory.pca
"""

import dataclasses
import time
from collections.abc import Iterator

import numpy as np
from sklearn.datasets import load_digits

from adapad_jax.regression import Eigen, Schedule, fit, planted
from experiments import figures
from experiments.harness import Experiment, Run, main
from experiments.results import Row, over_seeds, row

RULES = ('power', 'hebb', 'alpha', 'mu')
TARGET = 1e-3


@dataclasses.dataclass(frozen=True)
class Options:
  """Sizes of the experiment."""

  seeds: int = 10
  size: int = 64
  examples: int = 256
  rank: int = 8
  rounds: int = 400
  local_steps: int = 1
  rates: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
  timings: int = 3
  data: tuple[str, ...] = ('power law', 'exponential', 'digits')


def planted_data(options: Options, sigma_I: np.ndarray, seed: int) -> np.ndarray:
  """Points whose singular values are these."""
  draw = np.random.default_rng(seed)
  left_NI = planted.orthonormal(draw, options.examples, options.size)
  return left_NI * sigma_I @ planted.orthonormal(draw, options.size, options.size).T


def data_sets(options: Options) -> dict:
  """name -> the points for a seed, the sum of their variances 1."""
  digits_NI = load_digits().data
  digits_NI = digits_NI - digits_NI.mean(0)
  spectra = {
    'power law': planted.power_law(options.size, 1.0),
    'exponential': planted.exponential(options.size, 0.1),
  }
  sets = {
    name: lambda seed, sigma_I=sigma_I: planted_data(options, sigma_I, seed)
    for name, sigma_I in spectra.items()
  }
  sets['digits'] = lambda seed: digits_NI
  return {
    name: lambda seed, make=sets[name]: _scaled(make(seed)) for name in options.data
  }


def _scaled(x_NI: np.ndarray) -> np.ndarray:
  return (x_NI / np.linalg.norm(x_NI)).astype(np.float32)


def errors(options: Options, x_NI: np.ndarray, solver: Eigen, seed: int) -> np.ndarray:
  """||sum_k (v_k v_k^T - v*_k v*_k^T) X||_F of the leading `rank`, each round."""
  schedule = Schedule(
    rounds=options.rounds, local_steps=options.local_steps, activation='together'
  )
  # The mismatch of one further worker is the error of those before it.
  fitted = fit(
    x_NI, None, options.rank + 1, solver=solver, schedule=schedule, seed=seed,
    measure_mismatch=True,
  )  # fmt: skip
  return np.nan_to_num(fitted.mismatch_LR[:, -1], nan=np.inf)


def tuned(options: Options, x_NI: np.ndarray, rule: str, seed: int) -> Eigen:
  """The rule at the rate that gets to TARGET first, or closest to it, on one seed."""
  if rule == 'power':
    return Eigen(rule)
  solvers = [Eigen(rule, rate) for rate in options.rates]
  score = lambda solver: _reached(errors(options, x_NI, solver, seed))
  return min(solvers, key=score)


def _reached(error_L: np.ndarray) -> tuple[float, float]:
  """Rounds until the error stays below TARGET, infinite if it never does; the end."""
  above_L = np.flatnonzero(~(error_L < TARGET))
  rounds = above_L[-1] + 2 if above_L.size else 1
  return (float(rounds) if rounds <= len(error_L) else np.inf), float(error_L[-1])


def seconds_a_round(options: Options, x_NI: np.ndarray, solver: Eigen) -> float:
  """Least time of a round over some fits, from the difference of two lengths."""
  took = {}
  for rounds in (options.rounds, 4 * options.rounds):
    schedule = Schedule(
      rounds=rounds, local_steps=options.local_steps, activation='together'
    )
    times = []
    for _ in range(options.timings + 1):  # the first one compiles
      start = time.perf_counter()
      fit(x_NI, None, options.rank, solver=solver, schedule=schedule)
      times.append(time.perf_counter() - start)
    took[rounds] = min(times[1:])
  return (took[4 * options.rounds] - took[options.rounds]) / (3 * options.rounds)


def measure(run: Run, options: Options) -> Iterator[Row]:
  """All figures, and both pictures."""
  sets = data_sets(options)
  fig, axes = figures.panels(len(sets))
  time_fig, time_axes = figures.panels(len(sets))
  round_L = 1 + np.arange(options.rounds)
  for axis, time_axis, (name, make) in zip(axes, time_axes, sets.items(), strict=True):
    for rule in RULES:
      solver = tuned(options, make(options.seeds), rule, options.seeds)
      error_SL = np.stack(
        [errors(options, make(seed), solver, seed) for seed in range(options.seeds)]
      )
      pace = seconds_a_round(options, make(0), solver)
      yield from rows_of(name, solver, error_SL, pace)
      shown_SL = np.maximum(error_SL, 1e-9)
      figures.band(axis, round_L, shown_SL, rule)
      figures.band(time_axis, 1e3 * pace * round_L, shown_SL, rule)
    for where, label in ((axis, 'round'), (time_axis, 'ms')):
      where.set(xscale='log', yscale='log', xlabel=label, title=name)
  for drawn, where, ending in ((fig, axes, ''), (time_fig, time_axes, '_time')):
    where[0].set_ylabel('error of the leading projector times X')
    where[0].legend(fontsize='small')
    figures.save(drawn, run.folder / f'{run.name}{ending}.png')


def rows_of(name: str, solver: Eigen, error_SL, pace: float) -> Iterator[Row]:
  where = {'data': name, 'rule': solver.rule, 'rate': solver.learning_rate}
  reached_S = np.array([_reached(error_L)[0] for error_L in error_SL])
  seeds = {'reached': int(np.isfinite(reached_S).sum()), 'seeds': len(reached_S)}
  # An infinite median, where most seeds never got there, is recorded as null.
  rounds = np.median(reached_S)
  yield row(f'rounds to an error of {TARGET:g}', rounds, 'rounds', **where, **seeds)
  yield row(f'time to an error of {TARGET:g}', 1e3 * pace * rounds, 'ms', **where)
  yield over_seeds('error in the last round', error_SL[:, -1], '||X||_F', **where)


EXPERIMENT = Experiment('theory.pca', Options(), measure)

if __name__ == '__main__':
  main(EXPERIMENT)
