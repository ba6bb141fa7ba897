"""Speed and memory of regression by parallel deflation; ratios within one run."""

import dataclasses
import pathlib

import jax

from experiments import hlo
from experiments.record import record
from experiments.regression_speed import memory, race, rate, scaling
from experiments.regression_speed.problem import known

FOLDER = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Settings:
  """Sizes of the benchmark; `limit_s` ends a competitor in the race."""

  size: int = 1024
  rank: int = 64
  local_steps: int = 5
  repeats: int = 25
  memory: tuple[int, int, int] = (16384, 1024, 64)
  race_sizes: tuple[int, ...] = (256, 1024, 4096)
  race_ranks: tuple[int, ...] = (8, 64)
  gap: float = 0.1
  limit_s: float = 25.0
  devices: int = 2
  turns: int = 3


def record_rate(settings: Settings, folder: pathlib.Path) -> None:
  """A round against the bare product."""
  found = rate.measure(
    settings.size, settings.rank, settings.local_steps, repeats=settings.repeats
  )
  where = dataclasses.asdict(settings)
  where = {name: where[name] for name in ('size', 'rank', 'local_steps')}
  record(folder, 'rate of a round', found['round'], 'GFLOP/s', **where)
  record(folder, 'rate of the bare product', found['product'], 'GFLOP/s', **where)
  record(
    folder, 'rate of a round / rate of the bare product', found['ratio'], '', **where
  )


def record_memory(settings: Settings, folder: pathlib.Path) -> None:
  """Peak memory of a fit over what it must hold."""
  found = memory.in_subprocess(*settings.memory)
  where = dict(zip(('examples', 'size', 'rank'), settings.memory, strict=True))
  for call in ('first', 'second'):
    where['call'] = call
    record(folder, 'peak memory of fit', found[call] / 1e6, 'MB', **where)
    record(
      folder, 'peak memory / (inputs + C + S + three copies of the components)',
      found[call] / found['need'], '', **where,
    )  # fmt: skip


def record_race(settings: Settings, folder: pathlib.Path) -> None:
  """Time to the targets of the three competitors."""
  for size in settings.race_sizes:
    for rank in settings.race_ranks:
      problem = known(size, rank, settings.gap)
      competitors = {
        'ours': race.rounds_of_ours(problem, chunk=5),
        'randomised SVD': race.randomised(problem),
        'NumPy loop': race.numpy_loop(problem),
      }
      rows = {
        name: race.run_until(competitor, settings.limit_s)
        for name, competitor in competitors.items()
      }
      for target in race.TARGETS:
        _record_cell(folder, rows, target, {'size': size, 'rank': rank})


def _record_cell(
  folder: pathlib.Path, rows: dict, target: float, where: dict[str, int]
) -> None:
  """Times and ratios for one size, rank and target."""
  seconds = {name: race.reached(taken, target) for name, taken in rows.items()}
  for name, taken in rows.items():
    record(
      folder, f'time to a relative error of {target:g}', seconds[name], 's',
      method=name, **where, least=min(error for _, error in taken), rows=len(taken),
    )  # fmt: skip
    if name != 'ours' and seconds['ours'] and seconds[name]:
      ratio = seconds[name] / seconds['ours']
      record(folder, f'speed-up over {name}', ratio, '', target=target, **where)


def record_scaling(settings: Settings, folder: pathlib.Path) -> None:
  """Two devices against one, and the collectives of the program."""
  sizes = settings.size, settings.rank, settings.local_steps
  found = scaling.compare(*sizes, repeats=settings.repeats, turns=settings.turns)
  for name in ('one', 'two'):
    record(folder, f'round on {name} device(s), a core each', 1e3 * found[name], 'ms')
  record(folder, 'round of half the workers on one device', 1e3 * found['half'], 'ms')
  record(folder, 'speed-up of two devices', found['one'] / found['two'], '')
  record(folder, 'speed-up without waiting', found['one'] / found['half'], '')
  compiled = rate.Round(*sizes, rounds=2, devices=settings.devices).compiled()
  found = hlo.collectives(compiled)
  in_rounds = [kind for kind, depth in found if depth == 1]
  deeper = [kind for kind, depth in found if depth > 1]
  record(folder, 'collectives a round', len(in_rounds), '', kinds=in_rounds)
  record(folder, 'collectives inside the local steps', len(deeper), '', kinds=deeper)
  record(
    folder,
    'collectives outside the rounds',
    len(found) - len(in_rounds) - len(deeper),
    '',
  )


PARTS = {
  'rate': record_rate,
  'memory': record_memory,
  'scaling': record_scaling,
  'race': record_race,
}


def main(settings: Settings, folder: pathlib.Path, parts: list[str]) -> None:
  """Measures and records the parts named, or all of them."""
  for name in parts or PARTS:
    PARTS[name](settings, folder)


if __name__ == '__main__':
  import sys

  jax.config.update('jax_num_cpu_devices', 2)
  main(Settings(), FOLDER, sys.argv[1:])
