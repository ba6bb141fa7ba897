"""Late news and absent workers: does self-correction survive, and how fast is it?"""

import dataclasses
import pathlib

import numpy as np

from adapad_jax.regression import (
  Schedule,
  Traffic,
  absent_traffic,
  fit,
  late_traffic,
  planted,
)
from experiments import decay, figures
from experiments.record import record

FOLDER = pathlib.Path(__file__).parent
HIGH, LOW = 1e-2, 1e-9


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes of the experiment."""

  seeds: int = 10
  size: int = 32
  rank: int = 6
  gap: float = 0.3
  rounds: int = 200
  taus: tuple[int, ...] = (0, 1, 2, 4, 8)
  shares: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5)
  absence: int = 5


def mismatches(settings: Settings, traffic: Traffic, seed: int) -> np.ndarray:
  """mismatch_LR of one run; sigma_1 = 1."""
  sigma_R = planted.exponential(settings.rank + 1, settings.gap)
  size = settings.size
  data = planted.exact_design(sigma_R, 2 * size, size, size, seed)
  fitted = fit(
    *data, settings.rank, schedule=Schedule(rounds=settings.rounds), dtype='float64',
    seed=seed, traffic=traffic, measure_mismatch=True,
  )  # fmt: skip
  return fitted.mismatch_LR


def sweeps(settings: Settings) -> dict[str, dict[float, list[Traffic]]]:
  """name -> setting -> the traffic of every seed."""
  shape, seeds = (settings.rounds, settings.rank), range(settings.seeds)
  away = lambda share, seed: absent_traffic(*shape, share, settings.absence, seed)
  return {
    'late by tau': {t: [late_traffic(*shape, t) for _ in seeds] for t in settings.taus},
    'late by 0..tau at random': {
      t: [late_traffic(*shape, t, seed) for seed in seeds] for t in settings.taus
    },
    'absent': {p: [away(p, seed) for seed in seeds] for p in settings.shares},
  }


def main(settings: Settings, folder: pathlib.Path) -> None:
  """Measures, records and draws."""
  fig, axes = figures.panels(3)
  round_L = 1 + np.arange(settings.rounds)
  for axis, (name, sweep) in zip(axes, sweeps(settings).items(), strict=True):
    for value, traffics in sweep.items():
      last_SL = np.stack(
        [mismatches(settings, t, seed)[:, -1] for seed, t in enumerate(traffics)]
      )
      absent = np.mean([t.absent_LR.mean() for t in traffics])
      _record(folder, name, value, last_SL, float(absent))
      figures.band(axis, round_L, np.maximum(last_SL, 1e-16), f'{value}')
    axis.set(yscale='log', ylim=(1e-15, 30), xlabel='round', title=name)
    axis.legend(fontsize='small', title='share' if name == 'absent' else 'tau')
  axes[0].set_ylabel(r'$\|Y_{r,l} - Y_r^*\|_F$')
  figures.save(fig, folder)


def _record(folder: pathlib.Path, name: str, value, last_SL, absent: float) -> None:
  """Rate, warm-up, rounds to LOW and the end, all of the last component."""
  lines = [decay.fit_decay(g_L, HIGH, LOW) for g_L in last_SL]
  pairs = list(zip(last_SL, lines, strict=True))
  values = {
    'rate': ('', [line.rate for line in lines]),
    'warm-up': ('rounds', [decay.fit_warmup(g_L, line) for g_L, line in pairs]),
    f'rounds to {LOW:g}': ('rounds', [line.end for line in lines]),
    'mismatch in the last round': ('sigma_1', last_SL[:, -1]),
  }
  for figure, (unit, value_S) in values.items():
    value_S = np.array(value_S, float)
    record(
      folder, f'{figure} of the last component', np.nanmedian(value_S), unit,
      traffic=name, setting=value, absent=absent, **figures.spread(value_S),
    )  # fmt: skip


if __name__ == '__main__':
  main(Settings(), FOLDER)
