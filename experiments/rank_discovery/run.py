"""Growth that stops at the noise: the rank found against the true one."""

import dataclasses
import pathlib

import numpy as np

from adapad_jax.regression import Schedule, discover, planted
from adapad_jax.regression.discovery import noise_floor
from experiments import figures
from experiments.record import record

FOLDER = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Settings:
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
  settings: Settings, sigma_R: np.ndarray, count: int, noise: float, seed: int
) -> Outcome:
  """Plants, discovers and counts."""
  draw = np.random.default_rng((seed, count))
  w_OI = planted.weights(sigma_R, settings.inputs, settings.outputs, draw)
  x_NI, y_NO = planted.gaussian_design(w_OI, count, noise, draw)
  schedule = Schedule(rounds=settings.rounds, local_steps=2, tolerance=1e-5)
  fitted = discover(
    x_NI, y_NO, settings.max_rank, level=settings.level, schedule=schedule, seed=seed
  )
  left_NI, right_II = np.linalg.qr(x_NI)
  size = settings.inputs, settings.outputs
  above = lambda z_IO, energy: int(
    np.sum(np.linalg.svd(z_IO, compute_uv=False) ** 2 > energy)
  )
  return Outcome(
    found=fitted.active,
    visible=above(right_II @ w_OI.T, noise**2 * np.sqrt(np.prod(size))),
    exact=above(left_NI.T @ y_NO, noise_floor(noise, *size, settings.level)),
  )


def main(settings: Settings, folder: pathlib.Path) -> None:
  """Measures, records and draws."""
  fig, axes = figures.panels(len(settings.examples))
  sigma_R = planted.exponential(settings.rank, settings.gap)
  for axis, count in zip(axes, settings.examples, strict=True):
    found_SZ, visible_SZ = _sweep(settings, sigma_R, count, folder)
    axis.axhline(settings.rank, color='grey', lw=1, ls=':', label='true rank')
    visible_Z = np.median(visible_SZ, 0)
    axis.plot(settings.noises, visible_Z, 'k--', lw=1, label='visible')
    figures.band(axis, settings.noises, found_SZ, 'found', marker='o', ms=3)
    axis.set(xscale='log', xlabel='noise per output', title=f'{count} examples')
  axes[0].set_ylabel('rank')
  axes[0].legend(fontsize='small', loc='lower left')
  figures.save(fig, folder)
  _record_alarms(settings, folder)


def _sweep(
  settings: Settings, sigma_R: np.ndarray, count: int, folder: pathlib.Path
) -> tuple[np.ndarray, np.ndarray]:
  """Found and visible ranks, (seeds, noises)."""
  found_SZ = np.zeros((settings.seeds, len(settings.noises)), int)
  visible_SZ = found_SZ.copy()
  for z, noise in enumerate(settings.noises):
    runs = [
      outcome(settings, sigma_R, count, noise, seed) for seed in range(settings.seeds)
    ]
    found_SZ[:, z] = [run.found for run in runs]
    visible_SZ[:, z] = [run.visible for run in runs]
    exact_S = np.array([run.exact for run in runs])
    record(
      folder, 'rank found', np.median(found_SZ[:, z]), '', examples=count,
      noise=noise, true=settings.rank, visible=np.median(visible_SZ[:, z]),
      least=found_SZ[:, z].min(), most=found_SZ[:, z].max(),
      off_exact=np.abs(found_SZ[:, z] - exact_S).max(), seeds=settings.seeds,
    )  # fmt: skip
  return found_SZ, visible_SZ


def _record_alarms(settings: Settings, folder: pathlib.Path) -> None:
  """How often noise alone passes for a component; `level` of the runs should."""
  none_R = np.zeros(1)  # W = 0
  found_S = [
    outcome(settings, none_R, settings.alarm_examples, 1.0, 1000 + seed).found
    for seed in range(settings.alarms)
  ]
  share = np.mean(np.array(found_S) > 0)
  record(
    folder, 'share of runs that find a component in noise', share,
    '', level=settings.level, runs=settings.alarms, examples=settings.alarm_examples,
  )  # fmt: skip


if __name__ == '__main__':
  main(Settings(), FOLDER)
