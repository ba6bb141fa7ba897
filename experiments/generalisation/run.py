"""Test error of parallel and sequential deflation against noise, n and rounds."""

import dataclasses
import pathlib

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
from experiments.record import record

FOLDER = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Settings:
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


def case(settings: Settings, count: int, noise: float, seed: int) -> Case:
  """Gaussian inputs, planted W, Gaussian noise."""
  draw = np.random.default_rng(seed)
  sigma_R = planted.exponential(settings.true_rank, settings.gap)
  w_OI = planted.weights(sigma_R, settings.inputs, settings.outputs, draw)
  return Case(*planted.gaussian_design(w_OI, count, noise, draw), w_OI)


def parallel(settings: Settings, case: Case, rounds: int, seed: int) -> Fit:
  """All workers for so many rounds."""
  schedule = Schedule(rounds=rounds)
  return fit(
    case.x_NI, case.y_NO, settings.rank, schedule=schedule, dtype='float64', seed=seed
  )


def sequential(settings: Settings, case: Case, rounds: int, seed: int) -> Fit:
  """One worker after another, as many component updates as `parallel`."""
  rounds_R = compute_schedule(rounds * settings.rank, settings.rank, 0.0)
  return sequential_fit(case.x_NI, case.y_NO, rounds_R, dtype='float64', seed=seed)


def risks(settings: Settings, count: int, noise: float) -> dict[str, np.ndarray]:
  """Risk of every method: 'exact' (S,), the others (S, rounds)."""
  found = {'exact': [], 'parallel': [], 'sequential': []}
  for seed in range(settings.seeds):
    here = case(settings, count, noise, seed)
    best = exact_fit(here.x_NI, here.y_NO, settings.rank, dtype='float64')
    found['exact'].append(here.risk(best))
    for method in (parallel, sequential):
      fits = [method(settings, here, rounds, seed) for rounds in settings.rounds]
      found[method.__name__].append([here.risk(fitted) for fitted in fits])
  return {name: np.array(rows) for name, rows in found.items()}


def main(settings: Settings, folder: pathlib.Path) -> None:
  """Measures, records and draws."""
  sigma_R = planted.exponential(settings.true_rank, settings.gap)
  truncation = float(np.sum(sigma_R[settings.rank :] ** 2))
  record(folder, 'truncation error', truncation, '||W x||^2 units')
  measured = {
    (noise, count): risks(settings, count, noise)
    for noise in settings.noises
    for count in settings.counts
  }
  for (noise, count), found in measured.items():
    where = {'noise': noise, 'examples': count}
    statistical_S = found['exact'] - truncation
    record(
      folder, 'statistical error', np.median(statistical_S), '||W x||^2 units',
      **where, **figures.spread(statistical_S),
    )  # fmt: skip
    for method in ('parallel', 'sequential'):
      for rounds, risk_S in zip(settings.rounds, found[method].T, strict=True):
        left_S = risk_S - found['exact']
        record(
          folder, f'algorithmic error, {method}', np.median(left_S),
          '||W x||^2 units', rounds=rounds, **where, **figures.spread(left_S),
        )  # fmt: skip
  _draw(settings, folder, measured, truncation)


def _draw(settings: Settings, folder: pathlib.Path, measured, truncation) -> None:
  fig, axes = figures.panels(len(settings.noises) + 1)
  for axis, noise in zip(axes, settings.noises, strict=False):
    column = [measured[noise, count] for count in settings.counts]
    few = settings.rounds.index(settings.frozen_after)
    curves = {
      'exact': np.stack([found['exact'] for found in column], 1),
      f'sequential, {settings.frozen_after} rounds each': np.stack(
        [found['sequential'][:, few] for found in column], 1
      ),
      f'parallel, {settings.rounds[-1]} rounds': np.stack(
        [found['parallel'][:, -1] for found in column], 1
      ),
    }
    for (name, risk_SC), style in zip(curves.items(), ('-', '-', '--'), strict=True):
      figures.band(axis, settings.counts, risk_SC, name, ls=style)
    axis.axhline(truncation, color='k', ls=':', lw=1, label='truncation')
    axis.set(xscale='log', yscale='log', xlabel='n', title=f'noise {noise}')
  axes[0].set_ylabel('test error beyond noise')
  axes[0].legend(fontsize='x-small')
  found = measured[settings.noises[0], settings.counts[-1]]
  for method in ('parallel', 'sequential'):
    left_SL = np.abs(found[method] - found['exact'][:, None])
    figures.band(axes[-1], settings.rounds, np.maximum(left_SL, 1e-16), method)
  axes[-1].set(
    yscale='log', xlabel='rounds (component updates / rank)',
    title=f'|algorithmic error|, noise {settings.noises[0]}, n {settings.counts[-1]}',
  )  # fmt: skip
  axes[-1].legend(fontsize='small')
  figures.save(fig, folder)


if __name__ == '__main__':
  main(Settings(), FOLDER)
