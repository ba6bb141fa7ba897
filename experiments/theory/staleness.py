"""Late broadcasts and absent workers: does self-correction survive, and how fast?

python -m experiments.theory.staleness
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from adapad_jax.regression import Schedule, Traffic, absent_traffic, late_traffic
from experiments import figures
from experiments.harness import Experiment, Run, main
from experiments.results import Row, over_seeds
from experiments.theory import mismatch

HIGH, LOW = 1e-2, 1e-9


@dataclasses.dataclass(frozen=True)
class Options:
  """Sizes.

  Attributes:
    taus: by how many rounds broadcasts are late.
    shares: of the rounds that a worker misses, `absence` of them at a time.
  """

  seeds: int = 10
  size: int = 32
  rank: int = 6
  gap: float = 0.3
  rounds: int = 200
  taus: tuple[int, ...] = (0, 1, 2, 4, 8)
  shares: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5)
  absence: int = 5


def mismatches(options: Options, traffic: Traffic, seed: int) -> np.ndarray:
  """mismatch_LR of one run; sigma_1 = 1."""
  size, terms = options.size, options.rank + 1
  data = mismatch.even_gaps(size, terms, options.gap, seed, 1.0)
  schedule = Schedule(rounds=options.rounds)
  return mismatch.mismatches(data, options.rank, schedule, seed, traffic=traffic)


def sweeps(options: Options) -> dict[str, dict[float, list[Traffic]]]:
  """name -> setting -> the traffic of every seed."""
  shape, seeds = (options.rounds, options.rank), range(options.seeds)
  away = lambda share, seed: absent_traffic(*shape, share, options.absence, seed)
  return {
    'late by tau': {t: [late_traffic(*shape, t) for _ in seeds] for t in options.taus},
    'late by 0..tau at random': {
      t: [late_traffic(*shape, t, seed) for seed in seeds] for t in options.taus
    },
    'absent': {p: [away(p, seed) for seed in seeds] for p in options.shares},
  }


def measure(run: Run, options: Options) -> Iterator[Row]:
  """All figures, and the picture."""
  fig, axes = figures.panels(3)
  round_L = 1 + np.arange(options.rounds)
  for axis, (name, sweep) in zip(axes, sweeps(options).items(), strict=True):
    for value, traffics in sweep.items():
      last_SL = np.stack(
        [mismatches(options, t, seed)[:, -1] for seed, t in enumerate(traffics)]
      )
      absent = float(np.mean([t.absent_LR.mean() for t in traffics]))
      where = {'traffic': name, 'setting': value, 'absent': absent}
      yield from rows_of(where, last_SL)
      figures.band(axis, round_L, np.maximum(last_SL, 1e-16), f'{value}')
    axis.set(yscale='log', ylim=(1e-15, 30), xlabel='round', title=name)
    axis.legend(fontsize='small', title='share' if name == 'absent' else 'tau')
  axes[0].set_ylabel(r'$\|Y_{r,l} - Y_r^*\|_F$')
  figures.save(fig, run.folder / f'{run.name}.png')


def rows_of(where: dict, last_SL: np.ndarray) -> Iterator[Row]:
  """Rate, warm-up, rounds to LOW and the end, all of the last component."""
  lines = [mismatch.fit_decay(g_L, HIGH, LOW) for g_L in last_SL]
  pairs = list(zip(last_SL, lines, strict=True))
  values = {
    'rate': ('', [line.rate for line in lines]),
    'warm-up': ('rounds', [mismatch.fit_warmup(*pair) for pair in pairs]),
    f'rounds to {LOW:g}': ('rounds', [line.end for line in lines]),
    'mismatch in the last round': ('sigma_1', last_SL[:, -1]),
  }
  for name, (unit, value_S) in values.items():
    figure = f'{name} of the last component'
    yield over_seeds(figure, np.array(value_S, float), unit, **where)


EXPERIMENT = Experiment('theory.staleness', Options(), measure)

if __name__ == '__main__':
  main(EXPERIMENT)
