"""Rate and warm-up of parallel deflation against the spectral gap."""

import dataclasses
import pathlib

import numpy as np

from adapad_jax.regression import Schedule, fit, planted
from experiments import decay, figures
from experiments.record import record

FOLDER = pathlib.Path(__file__).parent
HIGH, LOW = 1e-2, 1e-12

NAMES = {
  'rate': 'rate m_k',
  'warm-up': 'warm-up s_k of the bound',
  'start': f'rounds to a mismatch of {HIGH:g}',
  'rounds': f'rounds to a mismatch of {LOW:g}',
}


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes of the experiment."""

  seeds: int = 10
  size: int = 32
  rank: int = 6
  gaps: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
  rounds: int = 400


def mismatches(settings: Settings, gap: float, seed: int) -> np.ndarray:
  """mismatch_LR of one run; sigma_1 = 1."""
  sigma_R = planted.exponential(settings.rank + 1, gap)
  size = settings.size
  data = planted.exact_design(sigma_R, 2 * size, size, size, seed)
  fitted = fit(
    *data, settings.rank, schedule=Schedule(rounds=settings.rounds), dtype='float64',
    seed=seed, measure_mismatch=True,
  )  # fmt: skip
  return fitted.mismatch_LR


def measure(settings: Settings, gap: float) -> dict[str, np.ndarray]:
  """Rate, warm-up, rounds to HIGH and to LOW, each (S, k) for k = 2..rank."""
  found = {'rate': [], 'warm-up': [], 'start': [], 'rounds': []}
  for seed in range(settings.seeds):
    mismatch_LR = mismatches(settings, gap, seed)
    lines = [decay.fit_decay(g_L, HIGH, LOW) for g_L in mismatch_LR.T[1:]]
    pairs = list(zip(mismatch_LR.T[1:], lines, strict=True))
    found['rate'].append([line.rate for line in lines])
    found['warm-up'].append([decay.fit_warmup(g_L, line) for g_L, line in pairs])
    found['start'].append([line.start for line in lines])
    found['rounds'].append([line.end for line in lines])
  arrays = {name: np.array(rows, float) for name, rows in found.items()}
  arrays['warm-up'][np.isnan(arrays['rate'])] = np.nan
  return arrays


def main(settings: Settings, folder: pathlib.Path) -> None:
  """Measures, records and draws."""
  measured = {gap: measure(settings, gap) for gap in settings.gaps}
  for gap, found in measured.items():
    for name, values_SK in found.items():
      last_S = values_SK[:, -1]
      record(
        folder, f'{NAMES[name]} of the last component', np.nanmedian(last_S),
        '' if name == 'rate' else 'rounds', gap=gap, **figures.spread(last_S),
        fitted=int(np.isfinite(found['rate'][:, -1]).sum()),
      )  # fmt: skip
    record(folder, 'rate of power iteration, (1 - gap)^2', (1 - gap) ** 2, '', gap=gap)
  _draw(settings, folder, measured)


def _draw(settings: Settings, folder: pathlib.Path, measured) -> None:
  fig, axes = figures.panels(4, width=3.8)
  colours = figures.shades(settings.rank)
  for axis, name in zip(axes, NAMES, strict=True):
    for k in range(1, settings.rank):
      values_SG = np.stack([found[name][:, k - 1] for found in measured.values()], 1)
      figures.band(axis, settings.gaps, values_SG, f'k = {k + 1}', color=colours[k])
    axis.set(xlabel=r'gap $(\sigma_k - \sigma_{k+1}) / \sigma_k$', title=NAMES[name])
  gap_G = np.array(settings.gaps)
  axes[0].plot(gap_G, (1 - gap_G) ** 2, 'k--', lw=1, label=r'$(1 - gap)^2$')
  axes[0].legend(fontsize='x-small')
  for axis in axes[2:]:
    axis.set(yscale='log')
  figures.save(fig, folder)


if __name__ == '__main__':
  main(Settings(), FOLDER)
