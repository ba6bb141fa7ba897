"""Mismatch of deflation targets: parallel against sequential deflation.

python -m experiments.theory.self_correction
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from adapad_jax.regression import Power, Schedule, compute_schedule, sequential_fit
from experiments import figures
from experiments.harness import Experiment, Run, main
from experiments.results import Row, over_seeds, row
from experiments.theory import mismatch

FLOOR = 1e-11  # of float64 rounding in a mismatch, with sigma_1 = 1


@dataclasses.dataclass(frozen=True)
class Options:
  """Sizes; `budgets` are rounds that sequential deflation gives a component."""

  seeds: int = 20
  size: int = 48
  rank: int = 8
  gap: float = 0.3
  rounds: int = 80
  budgets: tuple[int, ...] = (5, 10, 20)


def data(options: Options, seed: int) -> mismatch.Data:
  return mismatch.even_gaps(options.size, options.rank + 4, options.gap, seed, 10)


def parallel(options: Options, seed: int) -> np.ndarray:
  """mismatch_LR of parallel deflation, staggered, with advance learning."""
  schedule = Schedule(rounds=options.rounds)
  given = data(options, seed), options.rank, schedule, seed
  return mismatch.mismatches(*given, solver=Power())


def sequential(options: Options, seed: int, budget: int) -> np.ndarray:
  """mismatch_LR of sequential deflation, `budget` rounds a component.

  Row l is the state after (l + 1) * rank component updates, as in `parallel`; at
  the end nothing changes any more.
  """
  rounds_R = compute_schedule(budget * options.rank, options.rank, 0.0)
  fitted = sequential_fit(
    *data(options, seed), rounds_R, solver=Power(), dtype='float64', seed=seed,
    measure_mismatch=True,
  )  # fmt: skip
  rows_LR = fitted.mismatch_LR[options.rank - 1 :: options.rank]
  rest = options.rounds - len(rows_LR)
  return np.concatenate([rows_LR, np.repeat(rows_LR[-1:], rest, 0)])


def measure(run: Run, options: Options) -> Iterator[Row]:
  """All figures, and the picture."""
  seeds = range(options.seeds)
  ours_SLR = np.stack([parallel(options, seed) for seed in seeds])
  theirs = {
    budget: np.stack([sequential(options, seed, budget) for seed in seeds])
    for budget in options.budgets
  }
  yield from compared(options, ours_SLR, theirs)
  fits = [[fitted(value_L) for value_L in ours_LR.T[1:]] for ours_LR in ours_SLR]
  for k in range(1, options.rank):
    column = [one[k - 1] for one in fits]
    rate_S = np.array([line.rate for line, _, _ in column])
    warmup_S = np.array([warmup for _, warmup, _ in column])
    yield over_seeds('rate m_k', rate_S, '', component=k + 1)
    yield over_seeds('warm-up s_k', warmup_S, 'rounds', component=k + 1)
  held = [held for one in fits for _, _, held in one]
  name = 'runs and components in which the bound held on unseen rounds'
  yield row(name, np.mean(held), 'share', cases=len(held))
  draw(run, options, ours_SLR, theirs, fits)


def fitted(value_L: np.ndarray) -> tuple[mismatch.Decay, int, bool]:
  """Rate and warm-up from the fall to 1e-6, the bound tested on what follows."""
  line = mismatch.fit_decay(value_L, 1e-2, 1e-6)
  warmup = mismatch.fit_warmup(value_L, line)
  return line, warmup, mismatch.holds_later(value_L, line, warmup, FLOOR)


def compared(options: Options, ours_SLR, theirs) -> Iterator[Row]:
  """The last component's mismatch at equal compute, and at equal rounds in a row.

  The latter is equal time where every worker has a device of its own.
  """
  for budget, theirs_SLR in theirs.items():
    compute, in_a_row = budget, min(budget * options.rank, options.rounds)
    for name, values_SLR, l in (
      ('sequential', theirs_SLR, compute),
      ('parallel, equal compute', ours_SLR, compute),
      ('parallel, equal rounds in a row', ours_SLR, in_a_row),
    ):
      figure = f'mismatch of the last component, {name}'
      where = {'rounds': l, 'sequential_rounds_a_component': budget}
      yield over_seeds(figure, values_SLR[:, l - 1, -1], 'sigma_1', **where)


def draw(run: Run, options: Options, ours_SLR, theirs, fits) -> None:
  fig, (left, middle, right) = figures.panels(3)
  round_L = 1 + np.arange(options.rounds)
  colours = figures.shades(options.rank)
  budget = sorted(theirs)[len(theirs) // 2]
  for axis, values_SLR in ((left, ours_SLR), (middle, theirs[budget])):
    for k in range(1, options.rank):
      shown_SL = np.maximum(values_SLR[:, :, k], 1e-16)
      figures.band(axis, round_L, shown_SL, f'k = {k + 1}', color=colours[k])
  left.set_title('parallel deflation')
  middle.set_title(f'sequential, {budget} rounds a component')
  k = options.rank - 1
  for value_LR, one in zip(ours_SLR, fits, strict=True):
    line, warmup, _ = one[k - 1]
    right.plot(round_L, np.maximum(value_LR[:, k], 1e-16), color=colours[k], lw=0.6)
    if warmup >= 0:
      limit_L = mismatch.bound(line.rate, warmup, options.rounds)
      right.plot(round_L, limit_L, color='tab:red', lw=0.6, ls='--')
  right.set_title(f'k = {k + 1} of every run, and its bound (red)')
  for axis in (left, middle, right):
    axis.set(yscale='log', ylim=(1e-15, 30), xlabel='component updates / rank')
  left.set_ylabel(r'$\|Y_{k,l} - Y_k^*\|_F$')
  left.legend(fontsize='x-small', ncols=2)
  figures.save(fig, run.folder / f'{run.name}.png')


EXPERIMENT = Experiment('theory.self_correction', Options(), measure)

if __name__ == '__main__':
  main(EXPERIMENT)
