"""Tables of the runs: means, spreads and paired differences."""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.results import Row
from experiments.tables import markdown, mean_sd, paired

MIB = 2**20


def finite(rows: Sequence[Row]) -> list[Row]:
  """The rows of runs that stayed finite."""
  return [row for row in rows if row['value'] is not None]


def of(rows: Sequence[Row], method: str, budget: int | None = None) -> list[Row]:
  """The rows of one method, and of one budget if it is given."""
  own = [row for row in rows if row['method'] == method]
  return own if budget is None else [row for row in own if row['budget'] == budget]


def scores(rows: Sequence[Row], task: str) -> dict[int, float]:
  """Metric in points by seed, of one method's runs that stayed finite."""
  return {r['seed']: 100 * r['value'] for r in finite(rows) if r['task'] == task}


def broken(rows: Sequence[Row], task: str) -> int:
  """Runs of one method that did not stay finite."""
  return sum(row['task'] == task and row['value'] is None for row in rows)


def averages(rows: Sequence[Row], tasks: Sequence[str]) -> dict[int, float]:
  """Mean over the tasks by seed, of one method's seeds that have them all."""
  found = [scores(rows, task) for task in tasks]
  seeds = set.intersection(*(set(by_seed) for by_seed in found))
  return {s: float(np.mean([by_seed[s] for by_seed in found])) for s in sorted(seeds)}


def main_table(
  rows: Sequence[Row],
  costs: Sequence[Row],
  methods: Sequence[str],
  tasks: Sequence[str],
) -> str:
  """A Markdown table: a row for each method; costs are medians over their tasks."""
  head = ['method', *tasks, 'average', 'adapter', 'with head, MiB']
  head += ['s a step', 'peak MiB']
  lines = []
  for method in methods:
    own, timed = of(rows, method), of(costs, method)
    if not finite(own):
      continue
    adapter = median(finite(own), 'adapter_parameters')
    size = 4 * (adapter + median(finite(own), 'head_parameters')) / MIB
    lines.append(
      [
        method,
        *_cells(own, tasks),
        f'{adapter:,.0f}',
        f'{size:.2f}',
        f'{median(timed, "value"):.3f}' if timed else '',
        f'{median(timed, "peak_mib"):.0f}' if timed else '',
      ]
    )
  return markdown(head, lines)


def budget_table(
  rows: Sequence[Row], methods: Sequence[str], tasks: Sequence[str]
) -> str:
  """A Markdown table: a row for each method and budget, by growing budget."""
  lines = []
  for method in methods:
    for budget in sorted({row['budget'] for row in rows}):
      own = of(rows, method, budget)
      if finite(own):
        size = f'{median(finite(own), "adapter_parameters"):,.0f}'
        lines.append([method, str(budget), *_cells(own, tasks), size])
  return markdown(['method', 'average rank', *tasks, 'average', 'adapter'], lines)


def held_out_table(
  rows: Sequence[Row], methods: Sequence[str], tasks: Sequence[str]
) -> str:
  """Means on the part of the training rows that rates were searched on, and seeds.

  The average is over the tasks' means, where a method has them all.
  """
  lines = []
  for method in methods:
    found = [list(scores(of(rows, method), task).values()) for task in tasks]
    cells = [f'{np.mean(x):.2f} ({len(x)})' if x else '' for x in found]
    whole = f'{np.mean([np.mean(x) for x in found]):.2f}' if all(found) else ''
    lines.append([method, *cells, whole])
  return markdown(['held-out rows (seeds)', *tasks, 'average'], lines)


def held_out_differences(
  rows: Sequence[Row], methods: Sequence[str], tasks: Sequence[str]
) -> str:
  """AdaPaD minus every peer in `held_out_table`.

  Where two seeds or more are common, with a 95 % Student t interval over these.
  """
  mine, lines = of(rows, 'adapad'), []
  for peer in methods:
    pairs = [(scores(mine, task), scores(of(rows, peer), task)) for task in tasks]
    if peer == 'adapad' or not all(first and second for first, second in pairs):
      continue
    gaps = [np.mean([*a.values()]) - np.mean([*b.values()]) for a, b in pairs]
    cells = []
    for gap, pair in zip(gaps, pairs, strict=True):
      band = paired(*pair)
      known = not np.isnan(band['low'])
      shown = f' [{band["low"]:+.2f}, {band["high"]:+.2f}]' if known else ''
      cells.append(f'{gap:+.2f}{shown}')
    lines.append([peer, *cells, f'{np.mean(gaps):+.2f}'])
  return markdown(['adapad minus, held-out rows', *tasks, 'average'], lines)


def _cells(own: Sequence[Row], tasks: Sequence[str]) -> list[str]:
  """One method's mean and spread on every task and on average."""
  cells = []
  for task in tasks:
    values, lost = list(scores(own, task).values()), broken(own, task)
    cell = mean_sd(values) if values else ''
    cells.append(f'{cell} ({lost} not finite)' if lost else cell)
  whole = list(averages(own, tasks).values())
  return [*cells, mean_sd(whole) if whole else '']


def median(rows: Sequence[Row], key: str) -> float:
  """Of one figure over rows."""
  return float(np.median([row[key] for row in rows]))


def difference_table(
  rows: Sequence[Row], methods: Sequence[str], tasks: Sequence[str]
) -> str:
  """AdaPaD minus every peer, by task and on average, with intervals."""
  peers = [method for method in methods if method != 'adapad']
  mine = of(rows, 'adapad')
  lines = [[peer, *_intervals(mine, of(rows, peer), tasks)] for peer in peers]
  return markdown(['adapad minus', *tasks, 'average'], lines)


def growth_table(
  rows: Sequence[Row], methods: Sequence[str], tasks: Sequence[str]
) -> str:
  """Every method's largest budget minus its smaller ones, with intervals."""
  lines = []
  for method in methods:
    own = of(rows, method)
    budgets = sorted({row['budget'] for row in own})
    for budget in budgets[:-1]:
      name = f'{method} {budgets[-1]} minus {budget}'
      more, less = (of(own, method, size) for size in (budgets[-1], budget))
      lines.append([name, *_intervals(more, less, tasks)])
  return markdown(['larger budget', *tasks, 'average'], lines)


def _intervals(
  first: Sequence[Row], second: Sequence[Row], tasks: Sequence[str]
) -> list[str]:
  """First minus second, each of one method, by task and on average."""
  sides = [(scores(first, task), scores(second, task)) for task in tasks]
  sides.append((averages(first, tasks), averages(second, tasks)))
  return [_interval(paired(*pair)) for pair in sides]


def _interval(pair: Mapping[str, float]) -> str:
  if np.isnan(pair['mean']):
    return ''
  if np.isnan(pair['low']):
    return f'{pair["mean"]:+.1f}'
  return f'{pair["mean"]:+.1f} [{pair["low"]:+.1f}, {pair["high"]:+.1f}]'


def points(
  rows: Sequence[Row], values_of: Callable[[Sequence[Row]], Mapping[int, float]]
) -> dict[tuple[str, int], tuple[float, float]]:
  """(method, budget) -> parameters of the adapter and mean metric."""
  groups = collections.defaultdict(list)
  for row in finite(rows):
    groups[row['method'], row['budget']].append(row)
  found = {}
  for key, own in groups.items():
    if values := list(values_of(own).values()):
      size = float(np.median([row['adapter_parameters'] for row in own]))
      found[key] = size, float(np.mean(values))
  return found


def front(points: Mapping[Any, tuple[float, float]]) -> list[Any]:
  """Keys that no other point beats with fewer parameters or a higher metric.

  Args:
    points: key -> (parameters, metric).
  """
  best, kept = -np.inf, []
  for key, (_, metric) in sorted(points.items(), key=lambda p: (p[1][0], -p[1][1])):
    if metric > best:
      best = metric
      kept.append(key)
  return kept
