"""Principal components: parallel deflation against EigenGame alpha and mu."""

import dataclasses
import pathlib
import time

import numpy as np
from sklearn.datasets import load_digits

from adapad_jax.regression import Eigen, Schedule, fit, planted
from experiments import figures
from experiments.record import record

FOLDER = pathlib.Path(__file__).parent
RULES = ('power', 'hebb', 'alpha', 'mu')
TARGET = 1e-3


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes of the experiment."""

  seeds: int = 10
  size: int = 64
  examples: int = 256
  rank: int = 8
  rounds: int = 400
  local_steps: int = 1
  rates: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
  timings: int = 3
  data: tuple[str, ...] = ('power law', 'exponential', 'digits')


def planted_data(settings: Settings, sigma_I: np.ndarray, seed: int) -> np.ndarray:
  """Points whose singular values are these."""
  draw = np.random.default_rng(seed)
  left_NI = planted.orthonormal(draw, settings.examples, settings.size)
  return left_NI * sigma_I @ planted.orthonormal(draw, settings.size, settings.size).T


def data_sets(settings: Settings) -> dict:
  """name -> the points for a seed, the sum of their variances 1."""
  digits_NI = load_digits().data
  digits_NI = digits_NI - digits_NI.mean(0)
  spectra = {
    'power law': planted.power_law(settings.size, 1.0),
    'exponential': planted.exponential(settings.size, 0.1),
  }
  sets = {
    name: lambda seed, sigma_I=sigma_I: planted_data(settings, sigma_I, seed)
    for name, sigma_I in spectra.items()
  }
  sets['digits'] = lambda seed: digits_NI
  return {
    name: lambda seed, make=sets[name]: _scaled(make(seed)) for name in settings.data
  }


def _scaled(x_NI: np.ndarray) -> np.ndarray:
  return (x_NI / np.linalg.norm(x_NI)).astype(np.float32)


def errors(
  settings: Settings, x_NI: np.ndarray, solver: Eigen, seed: int
) -> np.ndarray:
  """||sum_k (v_k v_k^T - v*_k v*_k^T) X||_F of the leading `rank`, each round."""
  schedule = Schedule(
    rounds=settings.rounds, local_steps=settings.local_steps, activation='together'
  )
  # The mismatch of one further worker is the error of those before it.
  fitted = fit(
    x_NI, None, settings.rank + 1, solver=solver, schedule=schedule, seed=seed,
    measure_mismatch=True,
  )  # fmt: skip
  return np.nan_to_num(fitted.mismatch_LR[:, -1], nan=np.inf)


def tuned(settings: Settings, x_NI: np.ndarray, rule: str, seed: int) -> Eigen:
  """The rule at the rate that gets to TARGET first, or closest to it, on one seed."""
  if rule == 'power':
    return Eigen(rule)
  solvers = [Eigen(rule, rate) for rate in settings.rates]
  score = lambda solver: _reached(errors(settings, x_NI, solver, seed))
  return min(solvers, key=score)


def _reached(error_L: np.ndarray) -> tuple[float, float]:
  """Rounds until the error stays below TARGET, infinite if it never does; the end."""
  above_L = np.flatnonzero(~(error_L < TARGET))
  rounds = above_L[-1] + 2 if above_L.size else 1
  return (float(rounds) if rounds <= len(error_L) else np.inf), float(error_L[-1])


def seconds_a_round(settings: Settings, x_NI: np.ndarray, solver: Eigen) -> float:
  """Least time of a round over some fits, from the difference of two lengths."""
  took = {}
  for rounds in (settings.rounds, 4 * settings.rounds):
    schedule = Schedule(
      rounds=rounds, local_steps=settings.local_steps, activation='together'
    )
    times = []
    for _ in range(settings.timings + 1):  # the first one compiles
      start = time.perf_counter()
      fit(x_NI, None, settings.rank, solver=solver, schedule=schedule)
      times.append(time.perf_counter() - start)
    took[rounds] = min(times[1:])
  return (took[4 * settings.rounds] - took[settings.rounds]) / (3 * settings.rounds)


def main(settings: Settings, folder: pathlib.Path) -> None:
  """Measures, records and draws."""
  sets = data_sets(settings)
  fig, axes = figures.panels(len(sets))
  time_fig, time_axes = figures.panels(len(sets))
  round_L = 1 + np.arange(settings.rounds)
  for axis, time_axis, (name, make) in zip(axes, time_axes, sets.items(), strict=True):
    for rule in RULES:
      solver = tuned(settings, make(settings.seeds), rule, settings.seeds)
      error_SL = np.stack(
        [errors(settings, make(seed), solver, seed) for seed in range(settings.seeds)]
      )
      pace = seconds_a_round(settings, make(0), solver)
      _record(folder, name, solver, error_SL, pace)
      shown_SL = np.maximum(error_SL, 1e-9)
      figures.band(axis, round_L, shown_SL, rule)
      figures.band(time_axis, 1e3 * pace * round_L, shown_SL, rule)
    for where, label in ((axis, 'round'), (time_axis, 'ms')):
      where.set(xscale='log', yscale='log', xlabel=label, title=name)
  for drawn, where, file in (
    (fig, axes, 'figure.png'),
    (time_fig, time_axes, 'time.png'),
  ):
    where[0].set_ylabel('error of the leading projector times X')
    where[0].legend(fontsize='small')
    figures.save(drawn, folder, file)


def _record(folder: pathlib.Path, name: str, solver: Eigen, error_SL, pace) -> None:
  where = {'data': name, 'rule': solver.rule, 'rate': solver.learning_rate}
  reached_S = np.array([_reached(error_L)[0] for error_L in error_SL])
  record(
    folder, f'rounds to an error of {TARGET:g}', _number(np.median(reached_S)),
    'rounds', **where, reached=int(np.isfinite(reached_S).sum()), seeds=len(reached_S),
  )  # fmt: skip
  spent = _number(1e3 * pace * np.median(reached_S))
  record(folder, f'time to an error of {TARGET:g}', spent, 'ms', **where)
  record(
    folder, 'error in the last round', np.median(error_SL[:, -1]), '||X||_F', **where,
    **figures.spread(error_SL[:, -1]),
  )  # fmt: skip


def _number(value: float) -> float | None:
  """None for infinity, which JSON does not have."""
  return float(value) if np.isfinite(value) else None


if __name__ == '__main__':
  main(Settings(), FOLDER)
