"""What private training before activation is worth.

python -m experiments.theory.advance_learning
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from adapad_jax.regression import Schedule
from experiments import figures
from experiments.harness import Experiment, Run, main
from experiments.results import Row, over_seeds, row
from experiments.theory import mismatch

HIGH, LOW = 1e-2, 1e-11  # where a mismatch falls in a straight line


@dataclasses.dataclass(frozen=True)
class Options:
  """Sizes, and the gaps and local steps that are combined."""

  seeds: int = 20
  size: int = 32
  rank: int = 8
  gaps: tuple[float, ...] = (0.05, 0.1, 0.3)
  local_steps: tuple[int, ...] = (1, 4)
  rounds: int = 320


def mismatches(
  options: Options, gap: float, local_steps: int, advance: bool, seed: int
) -> np.ndarray:
  """mismatch_LR of one run; sigma_1 = 1."""
  data = mismatch.even_gaps(options.size, options.rank + 1, gap, seed, 1.0)
  schedule = Schedule(rounds=options.rounds, local_steps=local_steps, advance=advance)
  return mismatch.mismatches(data, options.rank, schedule, seed)


def share(with_L: np.ndarray, without_L: np.ndarray) -> float:
  """The leading constant with advance learning over that without.

  Both curves fall at one rate in the end, so the ratio of their constants is that of
  their values in the same rounds; NaN with fewer than three rounds to compare.
  """
  inside_L = [(LOW < curve_L) & (curve_L < HIGH) for curve_L in (with_L, without_L)]
  common_L = inside_L[0] & inside_L[1]
  if common_L.sum() < 3:
    return np.nan
  return float(np.exp(np.mean(np.log(with_L[common_L] / without_L[common_L]))))


def saved(with_L: np.ndarray, without_L: np.ndarray) -> float:
  """Rounds by which the mismatch falls below LOW earlier."""
  ends = [np.flatnonzero(curve_L > LOW)[-1] for curve_L in (with_L, without_L)]
  return float(ends[1] - ends[0])


def compare(options: Options, gap: float, local_steps: int) -> list[np.ndarray]:
  """Shares and rounds saved, each (S, k) for k = 2..rank."""
  shares_SK, saved_SK = [], []
  for seed in range(options.seeds):
    pair = [
      mismatches(options, gap, local_steps, advance, seed).T[1:]
      for advance in (True, False)
    ]
    shares_SK.append([share(*curves) for curves in zip(*pair, strict=True)])
    saved_SK.append([saved(*curves) for curves in zip(*pair, strict=True)])
  return [np.array(shares_SK), np.array(saved_SK)]


def measure(run: Run, options: Options) -> Iterator[Row]:
  """Per component and over all of them, and the picture."""
  fig, axes = figures.panels(len(options.gaps))
  component_K = np.arange(2, options.rank + 1)
  for axis, gap in zip(axes, options.gaps, strict=True):
    for local_steps in options.local_steps:
      found = compare(options, gap, local_steps)
      yield from rows_of({'gap': gap, 'local_steps': local_steps}, *found)
      figures.band(axis, component_K, found[0], f'{local_steps} local step(s)')
    axis.axhline(1, color='k', lw=0.8)
    axis.axhline(2 / 3, color='k', lw=0.8, ls='--', label='a third better')
    axis.set(yscale='log', xlabel='component', title=f'gap {gap}')
  axes[0].set_ylabel('leading constant, with / without')
  axes[0].legend(fontsize='small')
  figures.save(fig, run.folder / f'{run.name}.png')


def rows_of(where: dict, share_SK: np.ndarray, saved_SK: np.ndarray) -> Iterator[Row]:
  name = 'leading constant with advance learning, as a share of that without'
  for k, (share_S, saved_S) in enumerate(zip(share_SK.T, saved_SK.T, strict=True), 2):
    yield over_seeds(name, share_S, '', component=k, **where)
    yield over_seeds('rounds saved', saved_S, 'rounds', component=k, **where)
  mean, lost = np.exp(np.nanmean(np.log(share_SK))), int(np.isnan(share_SK).sum())
  yield row('geometric mean of these shares', mean, '', **where, not_compared=lost)


EXPERIMENT = Experiment('theory.advance_learning', Options(), measure)

if __name__ == '__main__':
  main(EXPERIMENT)
