"""The rows of `experiments.glue` that several pages tell."""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from adapad_jax.deflation.settings import AdaPaDSettings
from experiments.documented.recorded import cells, experiment, printed, rows
from experiments.glue import comparison, every_rank
from experiments.glue.runs import best_rate
from experiments.glue.summary import averages, of
from experiments.results import matching
from experiments.tables import mean_sd, paired

TASKS = ('sst2', 'cola', 'stsb', 'mrpc', 'rte')
STEPS = (1000, 802, 539, 344, 234)
NAMES = {
  'sst2': 'SST-2', 'cola': 'CoLA', 'stsb': 'STS-B', 'mrpc': 'MRPC', 'rte': 'RTE'
}  # fmt: skip
FLAGS = f'--tasks={",".join(TASKS)}', f'--steps={",".join(map(str, STEPS))}'
PREFIXES = 'AdaPaD, prefixes of one run'
COMPONENTS = ('adalora', 'increlora', 'sequential')


def searched(*more: str) -> tuple[str, ...]:
  """The tables of the comparison with searched rates."""
  return printed('glue.comparison', *FLAGS, *more)


@functools.cache
def runs(targets: str = 'all-linear') -> comparison.Shown:
  """The runs at chosen rates, of every budget."""
  one = experiment('glue.comparison')
  return comparison.shown(one.run(tasks=TASKS, steps=STEPS, targets=targets))


def main_row(method: str) -> dict[str, str]:
  """Its row of the main table."""
  return cells('method', searched(), method)


def gaps(peers: Sequence[str], budget: int = 2) -> list[float]:
  """AdaPaD minus each of them: means of the averages over tasks."""
  own = runs().runs
  average = lambda m: np.mean([*averages(of(own, m, budget), TASKS).values()])
  return [float(average('adapad') - average(peer)) for peer in peers]


def held_out(peer: str) -> dict[str, float]:
  """AdaPaD minus a peer on the held-out fifths, by task and on average."""
  row = cells('adapad minus, held-out rows', searched(), peer)
  return {task: float(row[task].split()[0]) for task in (*TASKS, 'average')}


def intervals(peer: str) -> dict[str, str]:
  """AdaPaD minus a peer on the development sets, with intervals."""
  return cells('adapad minus', searched(), peer)


def apart(peer: str, column: str) -> tuple[float, float, float]:
  """AdaPaD minus a peer: mean, and the ends of its interval."""
  mean, low, high = re.findall(r'[-+][\d.]+', intervals(peer)[column])
  return float(mean), float(low), float(high)


def interval(first: Mapping[int, float], second: Mapping[int, float]) -> str:
  """First minus second over common seeds: '-0.4 [-0.8, +0.0]'."""
  pair = paired(first, second)
  return f'{pair["mean"]:+.1f} [{pair["low"]:+.1f}, {pair["high"]:+.1f}]'


PUBLISHED = 'published (every worker sees every row)'


def by_held_out_loss(variant: str, task: str = 'cola') -> str:
  """Its loss minus that of LoRA of rank 2."""
  tables = [one for name, one in held_out_tables() if name == task]
  return cells('variant', tables, variant)['loss minus LoRA']


def held_out_tables(**options: Any) -> Iterator[tuple[str, str]]:
  """The tables of held-out losses with their tasks, of runs with these options."""
  one, task = experiment('glue.held_out'), ''
  for part in one.table(one.run(**options)).split('\n\n'):
    if part.startswith('| '):
      yield task, part
    else:
      task = part.removesuffix(':')


def tried(method: str, budget: int, targets: str = 'all-linear') -> dict[int, float]:
  """SST-2's held-out accuracy in points by seed, at the best rate."""
  like = {'kind': 'tune', 'task': 'sst2', 'steps': 1000, 'method': method}
  like |= {'budget': budget, 'targets': targets, 'batch': 32, 'train_rows': 0}
  found = matching(rows('glue.comparison'), like)
  rate = best_rate([(row['rate'], row['seed'], row['value']) for row in found])
  return {row['seed']: 100 * row['value'] for row in matching(found, {'rate': rate})}


def of_variant(name: str, rate: float = 2e-3) -> dict[int, float]:
  """Points of a variant on the whole of SST-2, by seed."""
  like = {'task': 'sst2', 'steps': 1000, 'eval_rows': 0, 'variant': name, 'rate': rate}
  found = matching(rows('glue.defaults'), like)
  by_seed = {row['seed']: 100 * row['value'] for row in found}
  return dict(sorted(by_seed.items()))


def at_every_rank() -> dict[str, every_rank.Curve]:
  """Curves of AdaPaD's prefixes, of LoRA trained at each rank, and of LoRA cut."""
  own = runs().of((1, 2, 4, 8))
  return every_rank.curves(own, TASKS, 2)


def epochs(task: str, method: str, rate: float) -> str:
  """'27.1 ± 2.1': three epochs of a recipe."""
  like = {'task': task, 'method': method, 'rate': rate}
  found = matching(rows('glue.three_epochs'), like)
  return mean_sd([100 * row['value'] for row in found])


def held_out_seeds(*methods: str) -> dict[str, tuple[int, ...]]:
  """On how many seeds the means of the held-out table rest, by task."""
  lines = [cells('held-out rows (seeds)', searched(), method) for method in methods]
  seeds = lambda cell: int(cell.split('(')[1].rstrip(')'))
  return {task: tuple(seeds(line[task]) for line in lines) for task in TASKS}


def at_the_edge(method: str) -> list[str]:
  """Tasks whose chosen rate is the highest that was tried."""
  row = cells('rate chosen', searched(), method)
  return [task for task in TASKS if '(highest)' in row[task]]


def named(tasks: Sequence[str]) -> str:
  """'SST-2, CoLA and RTE'."""
  names = [NAMES[task] for task in tasks]
  return ' and '.join([', '.join(names[:-1]), names[-1]] if names[1:] else names)


def defaults(batch: int = 32) -> tuple[float, float]:
  """The joint fraction of a batch, and that of a run that is joint throughout."""
  settings = AdaPaDSettings().resolve(modules=36, rounds=1000, batch=batch)
  return settings.joint, settings.polish


def share_of_joint_rows() -> float:
  """Of the rows of a run under the defaults."""
  joint, polish = defaults()
  return joint * (1 - polish) + polish


def weight_of_joint_rows(batch: int, workers: int) -> float:
  """Of joint rows in the mean gradient of a component, over a run.

  A component is trained by the joint rows and by its worker's own, all weighed alike;
  in the last part of a run every row is joint.
  """
  joint, polish = defaults(batch)
  own = (1 - joint) / workers
  return (1 - polish) * joint / (joint + own) + polish


def word(number: float) -> str:
  """A small number in words."""
  words = 'none one two three four five six seven eight nine ten'.split()
  return words[round(number)]
