"""What private training before activation is worth."""

import dataclasses
import pathlib

import numpy as np

from adapad_jax.regression import Schedule, fit, planted
from experiments import figures
from experiments.record import record

FOLDER = pathlib.Path(__file__).parent
HIGH, LOW = 1e-2, 1e-11  # where a mismatch falls in a straight line


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes of the experiment."""

  seeds: int = 20
  size: int = 32
  rank: int = 8
  gaps: tuple[float, ...] = (0.05, 0.1, 0.3)
  local_steps: tuple[int, ...] = (1, 4)
  rounds: int = 320


def mismatches(
  settings: Settings, gap: float, local_steps: int, advance: bool, seed: int
) -> np.ndarray:
  """mismatch_LR of one run; sigma_1 = 1."""
  sigma_R = planted.exponential(settings.rank + 1, gap)
  size = settings.size
  data = planted.exact_design(sigma_R, 2 * size, size, size, seed)
  schedule = Schedule(rounds=settings.rounds, local_steps=local_steps, advance=advance)
  fitted = fit(
    *data, settings.rank, schedule=schedule, dtype='float64', seed=seed,
    measure_mismatch=True,
  )  # fmt: skip
  return fitted.mismatch_LR


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


def compare(settings: Settings, gap: float, local_steps: int) -> list[np.ndarray]:
  """Shares and rounds saved, each (S, k) for k = 2..rank."""
  shares_SK, saved_SK = [], []
  for seed in range(settings.seeds):
    pair = [
      mismatches(settings, gap, local_steps, advance, seed).T[1:]
      for advance in (True, False)
    ]
    shares_SK.append([share(*curves) for curves in zip(*pair, strict=True)])
    saved_SK.append([saved(*curves) for curves in zip(*pair, strict=True)])
  return [np.array(shares_SK), np.array(saved_SK)]


def main(settings: Settings, folder: pathlib.Path) -> None:
  """Measures, records and draws."""
  fig, axes = figures.panels(len(settings.gaps))
  component_K = np.arange(2, settings.rank + 1)
  for axis, gap in zip(axes, settings.gaps, strict=True):
    for local_steps in settings.local_steps:
      shares_SK, saved_SK = compare(settings, gap, local_steps)
      _record(folder, gap, local_steps, shares_SK, saved_SK)
      figures.band(axis, component_K, shares_SK, f'{local_steps} local step(s)')
    axis.axhline(1, color='k', lw=0.8)
    axis.axhline(2 / 3, color='k', lw=0.8, ls='--', label='a third better')
    axis.set(yscale='log', xlabel='component', title=f'gap {gap}')
  axes[0].set_ylabel('leading constant, with / without')
  axes[0].legend(fontsize='small')
  figures.save(fig, folder)


def _record(folder: pathlib.Path, gap, local_steps, share_SK, saved_SK) -> None:
  """Per component, and over all of them."""
  where = {'gap': gap, 'local_steps': local_steps}
  for k, (share_S, saved_S) in enumerate(zip(share_SK.T, saved_SK.T, strict=True)):
    record(
      folder, 'leading constant with advance learning, as a share of that without',
      np.nanmedian(share_S), '', component=k + 2, **where, **figures.spread(share_S),
    )  # fmt: skip
    record(
      folder, 'rounds saved', np.nanmedian(saved_S), 'rounds', component=k + 2,
      **where, **figures.spread(saved_S),
    )  # fmt: skip
  record(
    folder, 'geometric mean of these shares', np.exp(np.nanmean(np.log(share_SK))), '',
    **where, not_compared=int(np.isnan(share_SK).sum()),
  )  # fmt: skip


if __name__ == '__main__':
  main(Settings(), FOLDER)
