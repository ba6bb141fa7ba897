"""Growth that stops at the noise: the rank found against the true one.

python -m experiments.theory.rank_discovery
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from adapad_jax.regression import Schedule, discover, planted
from adapad_jax.regression.discovery import noise_floor
from experiments import figures
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row


@dataclasses.dataclass(frozen=True)
class Options:
  """Sizes of the experiment; `alarms` runs on noise alone tell how often it errs."""

  seeds: int = 10
  inputs: int = 32
  outputs: int = 24
  rank: int = 6
  max_rank: int = 10
  gap: float = 0.3
  examples: tuple[int, ...] = (100, 1000, 10000)
  noises: tuple[float, ...] = tuple(np.geomspace(0.01, 20, 12).tolist())
  level: float = 0.01
  rounds: int = 500
  alarms: int = 400
  alarm_examples: int = 200


@dataclasses.dataclass(frozen=True)
class Outcome:
  """Ranks of one run.

  Attributes:
    found: by parallel deflation.
    visible: singular values of the noise-free fitted outputs above noise (d m)^(1/4),
      below which even exact singular values do not rise out of those of the noise
      (Baik, Ben Arous and Peche 2005).
    exact: exact squared singular values of the fitted outputs above the floor that
      the discovery has, here for the true noise.
  """

  found: int
  visible: int
  exact: int


def outcome(
  options: Options, sigma_R: np.ndarray, count: int, noise: float, seed: int
) -> Outcome:
  """Plants, discovers and counts."""
  draw = np.random.default_rng((seed, count))
  w_OI = planted.weights(sigma_R, options.inputs, options.outputs, draw)
  x_NI, y_NO = planted.gaussian_design(w_OI, count, noise, draw)
  schedule = Schedule(rounds=options.rounds, local_steps=2, tolerance=1e-5)
  fitted = discover(
    x_NI, y_NO, options.max_rank, level=options.level, schedule=schedule, seed=seed
  )
  left_NI, right_II = np.linalg.qr(x_NI)
  size = options.inputs, options.outputs
  above = lambda z_IO, energy: int(
    np.sum(np.linalg.svd(z_IO, compute_uv=False) ** 2 > energy)
  )
  return Outcome(
    found=fitted.active,
    visible=above(right_II @ w_OI.T, noise**2 * np.sqrt(np.prod(size))),
    exact=above(left_NI.T @ y_NO, noise_floor(noise, *size, options.level)),
  )


def measure(run: Run, options: Options) -> Iterator[Row]:
  """All figures, and the picture."""
  fig, axes = figures.panels(len(options.examples))
  for axis, count in zip(axes, options.examples, strict=True):
    outcomes = sweep(options, count)
    for noise, ones in zip(options.noises, outcomes, strict=True):
      yield found_row(options, count, noise, ones)
    axis.axhline(options.rank, color='grey', lw=1, ls=':', label='true rank')
    visible_Z = [np.median([one.visible for one in ones]) for ones in outcomes]
    axis.plot(options.noises, visible_Z, 'k--', lw=1, label='visible')
    found_SZ = np.array([[one.found for one in ones] for ones in outcomes]).T
    figures.band(axis, options.noises, found_SZ, 'found', marker='o', ms=3)
    axis.set(xscale='log', xlabel='noise per output', title=f'{count} examples')
  axes[0].set_ylabel('rank')
  axes[0].legend(fontsize='small', loc='lower left')
  figures.save(fig, run.folder / f'{run.name}.png')
  yield alarms(options)


def sweep(options: Options, count: int) -> list[list[Outcome]]:
  """The outcomes of all seeds, for every noise."""
  sigma_R = planted.exponential(options.rank, options.gap)
  return [
    [outcome(options, sigma_R, count, noise, seed) for seed in range(options.seeds)]
    for noise in options.noises
  ]


def found_row(options: Options, count: int, noise: float, ones: list[Outcome]) -> Row:
  """Ranks found, and how far they are from those of exact singular values."""
  found_S = np.array([one.found for one in ones])
  off_S = np.abs(found_S - [one.exact for one in ones])
  return row(
    'rank found', np.median(found_S), '', examples=count, noise=noise,
    true=options.rank, visible=np.median([one.visible for one in ones]),
    least=found_S.min(), most=found_S.max(), off_exact=off_S.max(),
    seeds=options.seeds,
  )  # fmt: skip


def alarms(options: Options) -> Row:
  """How often noise alone passes for a component; `level` of the runs should."""
  none_R = np.zeros(1)  # W = 0
  found_S = [
    outcome(options, none_R, options.alarm_examples, 1.0, 1000 + seed).found
    for seed in range(options.alarms)
  ]
  share, name = np.mean(np.array(found_S) > 0), 'find a component in noise'
  where = {'level': options.level, 'runs': options.alarms}
  return row(
    f'share of runs that {name}', share, '', **where, examples=options.alarm_examples
  )


EXPERIMENT = Experiment('theory.rank_discovery', Options(), measure)

if __name__ == '__main__':
  main(EXPERIMENT)
