"""Speed and memory of regression by parallel deflation; ratios within one run.

python -m experiments.speed.regression [--only=rate,memory,scaling,race]
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from experiments import processes
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row
from experiments.speed import regression_memory
from experiments.speed import regression_race as race
from experiments.speed import regression_rate as rate
from experiments.speed.regression_problem import known


@dataclasses.dataclass(frozen=True)
class Options:
  """Sizes of the benchmark.

  Attributes:
    memory: examples, size and rank of the fit whose memory is measured.
    limit_s: seconds after which a competitor in the race is stopped.
    devices: of the program whose collectives are counted.
  """

  size: int = 1024
  rank: int = 64
  local_steps: int = 5
  repeats: int = 25
  memory: tuple[int, ...] = (16384, 1024, 64)
  race_sizes: tuple[int, ...] = (256, 1024, 4096)
  race_ranks: tuple[int, ...] = (8, 64)
  gap: float = 0.1
  limit_s: float = 25.0
  devices: int = 2
  turns: int = 3


@dataclasses.dataclass(frozen=True)
class Part:
  """One of the four benchmarks."""

  name: str


# The figure by which a part is known to be recorded.
FIGURES = {
  'rate': 'rate of a round',
  'memory': 'peak memory of fit',
  'scaling': 'speed-up of two devices',
  'race': f'time to a relative error of {race.TARGETS[0]:g}',
}


def cases(run: Run) -> list[Part]:
  """All four."""
  return [Part(name) for name in FIGURES]


def key(run: Run, part: Part) -> dict[str, Any]:
  """Rows without settings were measured with the defaults."""
  return {'figure': FIGURES[part.name], 'settings': run.changed()}


def measure(run: Run, part: Part) -> Iterator[Row]:
  """The figures of a part."""
  parts = {
    'rate': rates,
    'memory': memory_of_fit,
    'scaling': scaling,
    'race': time_to_error,
  }
  yield from parts[part.name](run.options)


def rates(options: Options) -> Iterator[Row]:
  """A round against the bare product."""
  sizes = options.size, options.rank, options.local_steps
  found = rate.measure(*sizes, repeats=options.repeats)
  where = dict(zip(('size', 'rank', 'local_steps'), sizes, strict=True))
  yield row('rate of a round', found['round'], 'GFLOP/s', **where)
  yield row('rate of the bare product', found['product'], 'GFLOP/s', **where)
  name = 'rate of a round / rate of the bare product'
  yield row(name, found['ratio'], '', **where)


def memory_of_fit(options: Options) -> Iterator[Row]:
  """Peak memory of a fit over what it must hold."""
  found = processes.call(regression_memory.measure, *options.memory)
  where = dict(zip(('examples', 'size', 'rank'), options.memory, strict=True))
  for call in ('first', 'second'):
    where['call'] = call
    yield row('peak memory of fit', found[call] / 1e6, 'MB', **where)
    name = 'peak memory / (inputs + C + S + three copies of the components)'
    yield row(name, found[call] / found['need'], '', **where)


def time_to_error(options: Options) -> Iterator[Row]:
  """Time to the targets of the three competitors."""
  for size in options.race_sizes:
    for rank in options.race_ranks:
      problem = known(size, rank, options.gap)
      competitors = {
        'ours': race.rounds_of_ours(problem, chunk=5),
        'randomised SVD': race.randomised(problem),
        'NumPy loop': race.numpy_loop(problem),
      }
      taken = {
        name: race.run_until(competitor, options.limit_s)
        for name, competitor in competitors.items()
      }
      for target in race.TARGETS:
        yield from race_cell(taken, target, {'size': size, 'rank': rank})


def race_cell(taken: dict, target: float, where: dict[str, int]) -> Iterator[Row]:
  """Times and ratios for one size, rank and target."""
  seconds = {name: race.reached(steps, target) for name, steps in taken.items()}
  for name, steps in taken.items():
    about = {'method': name, **where, 'least': min(error for _, error in steps)}
    figure = f'time to a relative error of {target:g}'
    yield row(figure, seconds[name], 's', **about, rows=len(steps))
    if name != 'ours' and seconds['ours'] and seconds[name]:
      ratio = seconds[name] / seconds['ours']
      yield row(f'speed-up over {name}', ratio, '', target=target, **where)


def scaling(options: Options) -> Iterator[Row]:
  """Two devices against one, and the collectives of the program."""
  sizes = options.size, options.rank, options.local_steps
  found = rate.compare(*sizes, repeats=options.repeats, turns=options.turns)
  for name in ('one', 'two'):
    yield row(f'round on {name} device(s), a core each', 1e3 * found[name], 'ms')
  yield row('round of half the workers on one device', 1e3 * found['half'], 'ms')
  yield row('speed-up of two devices', found['one'] / found['two'], '')
  yield row('speed-up without waiting', found['one'] / found['half'], '')
  collectives = processes.call(rate.collectives, *sizes, options.devices)
  in_rounds = [kind for kind, depth in collectives if depth == 1]
  deeper = [kind for kind, depth in collectives if depth > 1]
  yield row('collectives a round', len(in_rounds), '', kinds=in_rounds)
  yield row('collectives inside the local steps', len(deeper), '', kinds=deeper)
  outside = len(collectives) - len(in_rounds) - len(deeper)
  yield row('collectives outside the rounds', outside, '')


EXPERIMENT = Experiment('speed.regression', Options(), measure, cases, key)

if __name__ == '__main__':
  main(EXPERIMENT)
