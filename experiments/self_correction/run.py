"""Mismatch of deflation targets: parallel against sequential deflation."""

import dataclasses
import pathlib

import numpy as np

from adapad_jax.regression import (
  Power,
  Schedule,
  compute_schedule,
  fit,
  planted,
  sequential_fit,
)
from experiments import decay, figures
from experiments.record import record

FOLDER = pathlib.Path(__file__).parent
FLOOR = 1e-11  # of float64 rounding in a mismatch, with sigma_1 = 1


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes of the experiment."""

  seeds: int = 20
  size: int = 48
  rank: int = 8
  gap: float = 0.3
  rounds: int = 80
  budgets: tuple[int, ...] = (5, 10, 20)


def data(settings: Settings, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Planted data whose singular values have one relative gap throughout."""
  sigma_R = planted.exponential(settings.rank + 4, settings.gap)
  size = settings.size
  return planted.exact_design(sigma_R, 2 * size, size, size, seed, condition=10)


def parallel(settings: Settings, seed: int) -> np.ndarray:
  """mismatch_LR of parallel deflation, staggered, with advance learning."""
  schedule = Schedule(rounds=settings.rounds)
  fitted = fit(
    *data(settings, seed), settings.rank, solver=Power(), schedule=schedule,
    dtype='float64', seed=seed, measure_mismatch=True,
  )  # fmt: skip
  return fitted.mismatch_LR


def sequential(settings: Settings, seed: int, budget: int) -> np.ndarray:
  """mismatch_LR of sequential deflation, `budget` rounds a component.

  Row l is the state after (l + 1) * rank component updates, as in `parallel`; at
  the end nothing changes any more.
  """
  rounds_R = compute_schedule(budget * settings.rank, settings.rank, 0.0)
  fitted = sequential_fit(
    *data(settings, seed), rounds_R, solver=Power(), dtype='float64', seed=seed,
    measure_mismatch=True,
  )  # fmt: skip
  rows_LR = fitted.mismatch_LR[settings.rank - 1 :: settings.rank]
  rest = settings.rounds - len(rows_LR)
  return np.concatenate([rows_LR, np.repeat(rows_LR[-1:], rest, 0)])


def main(settings: Settings, folder: pathlib.Path) -> None:
  """Measures, records and draws."""
  seeds = range(settings.seeds)
  ours_SLR = np.stack([parallel(settings, seed) for seed in seeds])
  theirs = {
    budget: np.stack([sequential(settings, seed, budget) for seed in seeds])
    for budget in settings.budgets
  }
  _compare(settings, folder, ours_SLR, theirs)
  fits = [[_fit(value_L) for value_L in ours_LR.T[1:]] for ours_LR in ours_SLR]
  for k in range(1, settings.rank):
    column = [row[k - 1] for row in fits]
    rate_S = np.array([line.rate for line, _, _ in column])
    warmup_S = np.array([warmup for _, warmup, _ in column])
    for figure, value_S, unit in (
      ('rate m_k', rate_S, ''),
      ('warm-up s_k', warmup_S, 'rounds'),
    ):
      band = figures.spread(value_S)
      record(folder, figure, np.median(value_S), unit, component=k + 1, **band)
  held = [held for row in fits for _, _, held in row]
  record(
    folder, 'runs and components in which the bound held on unseen rounds',
    np.mean(held), 'share', cases=len(held),
  )  # fmt: skip
  _draw(settings, folder, ours_SLR, theirs, fits)


def _fit(value_L: np.ndarray) -> tuple[decay.Decay, int, bool]:
  """Rate and warm-up from the fall to 1e-6, the bound tested on what follows."""
  line = decay.fit_decay(value_L, 1e-2, 1e-6)
  warmup = decay.fit_warmup(value_L, line)
  return line, warmup, decay.holds_later(value_L, line, warmup, FLOOR)


def _compare(settings: Settings, folder: pathlib.Path, ours_SLR, theirs) -> None:
  """The last component's mismatch at equal compute, and at equal rounds in a row.

  The latter is equal time where every worker has a device of its own.
  """
  for budget, theirs_SLR in theirs.items():
    compute, in_a_row = budget, min(budget * settings.rank, settings.rounds)
    for name, values_SLR, l in (
      ('sequential', theirs_SLR, compute),
      ('parallel, equal compute', ours_SLR, compute),
      ('parallel, equal rounds in a row', ours_SLR, in_a_row),
    ):
      value_S = values_SLR[:, l - 1, -1]
      record(
        folder, f'mismatch of the last component, {name}', np.median(value_S),
        'sigma_1', rounds=l, sequential_rounds_a_component=budget,
        **figures.spread(value_S),
      )  # fmt: skip


def _draw(settings: Settings, folder: pathlib.Path, ours_SLR, theirs, fits) -> None:
  fig, (left, middle, right) = figures.panels(3)
  round_L = 1 + np.arange(settings.rounds)
  colours = figures.shades(settings.rank)
  budget = sorted(theirs)[len(theirs) // 2]
  for axis, values_SLR in ((left, ours_SLR), (middle, theirs[budget])):
    for k in range(1, settings.rank):
      shown_SL = np.maximum(values_SLR[:, :, k], 1e-16)
      figures.band(axis, round_L, shown_SL, f'k = {k + 1}', color=colours[k])
  left.set_title('parallel deflation')
  middle.set_title(f'sequential, {budget} rounds a component')
  k = settings.rank - 1
  for value_LR, row in zip(ours_SLR, fits, strict=True):
    line, warmup, _ = row[k - 1]
    right.plot(round_L, np.maximum(value_LR[:, k], 1e-16), color=colours[k], lw=0.6)
    if warmup >= 0:
      limit_L = decay.bound(line.rate, warmup, settings.rounds)
      right.plot(round_L, limit_L, color='tab:red', lw=0.6, ls='--')
  right.set_title(f'k = {k + 1} of every run, and its bound (red)')
  for axis in (left, middle, right):
    axis.set(yscale='log', ylim=(1e-15, 30), xlabel='component updates / rank')
  left.set_ylabel(r'$\|Y_{k,l} - Y_k^*\|_F$')
  left.legend(fontsize='x-small', ncols=2)
  figures.save(fig, folder)


if __name__ == '__main__':
  main(Settings(), FOLDER)
