"""Rate and warm-up of parallel deflation against the spectral gap.

python -m experiments.theory.spectral_gap
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from adapad_jax.regression import Schedule
from experiments import figures
from experiments.harness import Experiment, Run, main
from experiments.results import Row, over_seeds, row
from experiments.theory import mismatch

HIGH, LOW = 1e-2, 1e-12

NAMES = {
  'rate': 'rate m_k',
  'warm-up': 'warm-up s_k of the bound',
  'start': f'rounds to a mismatch of {HIGH:g}',
  'rounds': f'rounds to a mismatch of {LOW:g}',
}


@dataclasses.dataclass(frozen=True)
class Options:
  """Sizes, and the relative gaps between singular values."""

  seeds: int = 10
  size: int = 32
  rank: int = 6
  gaps: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
  rounds: int = 400


def found_at(options: Options, gap: float) -> dict[str, np.ndarray]:
  """Rate, warm-up, rounds to HIGH and to LOW, each (S, k) for k = 2..rank."""
  found = {name: [] for name in NAMES}
  for seed in range(options.seeds):
    data = mismatch.even_gaps(options.size, options.rank + 1, gap, seed, 1.0)
    schedule = Schedule(rounds=options.rounds)
    mismatch_LR = mismatch.mismatches(data, options.rank, schedule, seed)
    lines = [mismatch.fit_decay(g_L, HIGH, LOW) for g_L in mismatch_LR.T[1:]]
    pairs = list(zip(mismatch_LR.T[1:], lines, strict=True))
    found['rate'].append([line.rate for line in lines])
    found['warm-up'].append([mismatch.fit_warmup(*pair) for pair in pairs])
    found['start'].append([line.start for line in lines])
    found['rounds'].append([line.end for line in lines])
  arrays = {name: np.array(rows, float) for name, rows in found.items()}
  arrays['warm-up'][np.isnan(arrays['rate'])] = np.nan
  return arrays


def measure(run: Run, options: Options) -> Iterator[Row]:
  """All figures, and the picture."""
  measured = {gap: found_at(options, gap) for gap in options.gaps}
  for gap, found in measured.items():
    fitted = int(np.isfinite(found['rate'][:, -1]).sum())
    for name, values_SK in found.items():
      figure, unit = f'{NAMES[name]} of the last component', 'rounds'
      unit = '' if name == 'rate' else unit
      yield over_seeds(figure, values_SK[:, -1], unit, gap=gap, fitted=fitted)
    yield row('rate of power iteration, (1 - gap)^2', (1 - gap) ** 2, '', gap=gap)
  draw(run, options, measured)


def draw(run: Run, options: Options, measured) -> None:
  fig, axes = figures.panels(4, width=3.8)
  colours = figures.shades(options.rank)
  for axis, name in zip(axes, NAMES, strict=True):
    for k in range(1, options.rank):
      values_SG = np.stack([found[name][:, k - 1] for found in measured.values()], 1)
      figures.band(axis, options.gaps, values_SG, f'k = {k + 1}', color=colours[k])
    axis.set(xlabel=r'gap $(\sigma_k - \sigma_{k+1}) / \sigma_k$', title=NAMES[name])
  gap_G = np.array(options.gaps)
  axes[0].plot(gap_G, (1 - gap_G) ** 2, 'k--', lw=1, label=r'$(1 - gap)^2$')
  axes[0].legend(fontsize='x-small')
  for axis in axes[2:]:
    axis.set(yscale='log')
  figures.save(fig, run.folder / f'{run.name}.png')


EXPERIMENT = Experiment('theory.spectral_gap', Options(), measure)

if __name__ == '__main__':
  main(EXPERIMENT)
