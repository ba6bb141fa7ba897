"""Test error of parallel and sequential deflation against noise, n and rounds.

python -m experiments.theory.generalisation
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from adapad_jax.regression import (
  Fit,
  Schedule,
  compute_schedule,
  exact_fit,
  fit,
  planted,
  sequential_fit,
)
from experiments import figures
from experiments.harness import Experiment, Run, main
from experiments.results import Row, over_seeds, row


@dataclasses.dataclass(frozen=True)
class Options:
  """Sizes of the experiment: the truth has `true_rank` terms, the fit has `rank`."""

  seeds: int = 10
  inputs: int = 32
  outputs: int = 24
  true_rank: int = 10
  rank: int = 6
  gap: float = 0.2
  counts: tuple[int, ...] = (100, 300, 1000, 3000, 10000)
  noises: tuple[float, ...] = (0.1, 0.5)
  rounds: tuple[int, ...] = (4, 8, 16, 32, 64)
  frozen_after: int = 4


@dataclasses.dataclass(frozen=True)
class Case:
  """Training data and the truth behind them."""

  x_NI: np.ndarray
  y_NO: np.ndarray
  w_OI: np.ndarray

  def risk(self, fitted: Fit) -> float:
    """E ||W x - W_fit x||^2 over standard normal x, the test error beyond noise."""
    return float(np.sum((fitted.weight() - self.w_OI) ** 2))


def case(options: Options, count: int, noise: float, seed: int) -> Case:
  """Gaussian inputs, planted W, Gaussian noise."""
  draw = np.random.default_rng(seed)
  sigma_R = planted.exponential(options.true_rank, options.gap)
  w_OI = planted.weights(sigma_R, options.inputs, options.outputs, draw)
  return Case(*planted.gaussian_design(w_OI, count, noise, draw), w_OI)


def parallel(options: Options, case: Case, rounds: int, seed: int) -> Fit:
  """All workers for so many rounds."""
  schedule = Schedule(rounds=rounds)
  return fit(
    case.x_NI, case.y_NO, options.rank, schedule=schedule, dtype='float64', seed=seed
  )


def sequential(options: Options, case: Case, rounds: int, seed: int) -> Fit:
  """One worker after another, as many component updates as `parallel`."""
  rounds_R = compute_schedule(rounds * options.rank, options.rank, 0.0)
  return sequential_fit(case.x_NI, case.y_NO, rounds_R, dtype='float64', seed=seed)


def risks(options: Options, count: int, noise: float) -> dict[str, np.ndarray]:
  """Risk of every method: 'exact' (S,), the others (S, rounds)."""
  found = {'exact': [], 'parallel': [], 'sequential': []}
  for seed in range(options.seeds):
    here = case(options, count, noise, seed)
    best = exact_fit(here.x_NI, here.y_NO, options.rank, dtype='float64')
    found['exact'].append(here.risk(best))
    for method in (parallel, sequential):
      fits = [method(options, here, rounds, seed) for rounds in options.rounds]
      found[method.__name__].append([here.risk(fitted) for fitted in fits])
  return {name: np.array(rows) for name, rows in found.items()}


def measure(run: Run, options: Options) -> Iterator[Row]:
  """All figures, and the picture."""
  unit = '||W x||^2 units'
  sigma_R = planted.exponential(options.true_rank, options.gap)
  truncation = float(np.sum(sigma_R[options.rank :] ** 2))
  yield row('truncation error', truncation, unit)
  measured = {
    (noise, count): risks(options, count, noise)
    for noise in options.noises
    for count in options.counts
  }
  for (noise, count), found in measured.items():
    where = {'noise': noise, 'examples': count}
    yield over_seeds('statistical error', found['exact'] - truncation, unit, **where)
    for method in ('parallel', 'sequential'):
      for rounds, risk_S in zip(options.rounds, found[method].T, strict=True):
        name, left_S = f'algorithmic error, {method}', risk_S - found['exact']
        yield over_seeds(name, left_S, unit, rounds=rounds, **where)
  draw(run, options, measured, truncation)


def draw(run: Run, options: Options, measured, truncation) -> None:
  fig, axes = figures.panels(len(options.noises) + 1)
  for axis, noise in zip(axes, options.noises, strict=False):
    column = [measured[noise, count] for count in options.counts]
    few = options.rounds.index(options.frozen_after)
    curves = {
      'exact': np.stack([found['exact'] for found in column], 1),
      f'sequential, {options.frozen_after} rounds each': np.stack(
        [found['sequential'][:, few] for found in column], 1
      ),
      f'parallel, {options.rounds[-1]} rounds': np.stack(
        [found['parallel'][:, -1] for found in column], 1
      ),
    }
    for (name, risk_SC), style in zip(curves.items(), ('-', '-', '--'), strict=True):
      figures.band(axis, options.counts, risk_SC, name, ls=style)
    axis.axhline(truncation, color='k', ls=':', lw=1, label='truncation')
    axis.set(xscale='log', yscale='log', xlabel='n', title=f'noise {noise}')
  axes[0].set_ylabel('test error beyond noise')
  axes[0].legend(fontsize='x-small')
  found = measured[options.noises[0], options.counts[-1]]
  for method in ('parallel', 'sequential'):
    left_SL = np.abs(found[method] - found['exact'][:, None])
    figures.band(axes[-1], options.rounds, np.maximum(left_SL, 1e-16), method)
  axes[-1].set(
    yscale='log', xlabel='rounds (component updates / rank)',
    title=f'|algorithmic error|, noise {options.noises[0]}, n {options.counts[-1]}',
  )  # fmt: skip
  axes[-1].legend(fontsize='small')
  figures.save(fig, run.folder / f'{run.name}.png')


EXPERIMENT = Experiment('theory.generalisation', Options(), measure)

if __name__ == '__main__':
  main(EXPERIMENT)
