"""Tables of the runs: means, spreads and paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

Row = Mapping[str, Any]
MIB = 2**20


def mean_sd(values: Sequence[float]) -> str:
  """'91.2 ± 0.3', or the mean alone of one value."""
  mean = f'{np.mean(values):.1f}'
  return mean if len(values) < 2 else f'{mean} ± {np.std(values, ddof=1):.1f}'


def finite(rows: Sequence[Row]) -> list[Row]:
  """The rows of runs that stayed finite."""
  return [row for row in rows if row['value'] is not None]


def scores(rows: Sequence[Row], method: str, task: str) -> dict[int, float]:
  """Metric in points by seed, of the runs that stayed finite."""
  return {
    row['seed']: 100 * row['value']
    for row in finite(rows)
    if row['method'] == method and row['task'] == task
  }


def broken(rows: Sequence[Row], method: str, task: str) -> int:
  """Runs that did not stay finite."""
  own = [row for row in rows if row['method'] == method and row['task'] == task]
  return len(own) - len(finite(own))


def averages(
  rows: Sequence[Row], method: str, tasks: Sequence[str]
) -> dict[int, float]:
  """Mean over the tasks by seed, of the seeds that have them all."""
  found = [scores(rows, method, task) for task in tasks]
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
  lines = [head, ['---'] * len(head)]
  for method in methods:
    own = [row for row in finite(rows) if row['method'] == method]
    if not own:
      continue
    cells = []
    for task in tasks:
      values = list(scores(rows, method, task).values())
      lost = broken(rows, method, task)
      cell = mean_sd(values) if values else ''
      cells.append(f'{cell} ({lost} not finite)' if lost else cell)
    whole = list(averages(rows, method, tasks).values())
    adapter = median(own, 'adapter_parameters')
    size = 4 * (adapter + median(own, 'head_parameters')) / MIB
    timed = [row for row in costs if row['method'] == method]
    lines.append(
      [
        method,
        *cells,
        mean_sd(whole) if whole else '',
        f'{adapter:,.0f}',
        f'{size:.2f}',
        f'{median(timed, "value"):.3f}' if timed else '',
        f'{median(timed, "peak_mib"):.0f}' if timed else '',
      ]
    )
  return _markdown(lines)


def budget_table(
  rows: Sequence[Row], methods: Sequence[str], tasks: Sequence[str]
) -> str:
  """A Markdown table: a row for each method and budget, by growing budget."""
  head = ['method', 'average rank', *tasks, 'average', 'adapter']
  lines = [head, ['---'] * len(head)]
  for method in methods:
    for budget in sorted({row['budget'] for row in rows}):
      own = [
        row
        for row in finite(rows)
        if row['method'] == method and row['budget'] == budget
      ]
      if not own:
        continue
      found = [list(scores(own, method, task).values()) for task in tasks]
      found.append(list(averages(own, method, tasks).values()))
      cells = [mean_sd(values) if values else '' for values in found]
      size = f'{median(own, "adapter_parameters"):,.0f}'
      lines.append([method, str(budget), *cells, size])
  return _markdown(lines)


def median(rows: Sequence[Row], key: str) -> float:
  """Of one figure over rows."""
  return float(np.median([row[key] for row in rows]))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, float]:
  """Mean of first - second over common seeds, with a 95 % Student t interval.

  The interval is nan with fewer than two seeds.
  """
  seeds = sorted(set(first) & set(second))
  differences = np.array([first[s] - second[s] for s in seeds])
  if len(differences) < 2:
    mean = float(differences.mean()) if len(differences) else np.nan
    return {'seeds': len(seeds), 'mean': mean, 'low': np.nan, 'high': np.nan}
  mean, error = differences.mean(), stats.sem(differences)
  half = error * stats.t.ppf(0.975, len(differences) - 1)
  return {
    'seeds': len(seeds),
    'mean': float(mean),
    'low': float(mean - half),
    'high': float(mean + half),
  }


def difference_table(
  rows: Sequence[Row], methods: Sequence[str], tasks: Sequence[str]
) -> str:
  """AdaPaD minus every peer, by task and on average, with intervals."""
  head = ['adapad minus', *tasks, 'average']
  lines = [head, ['---'] * len(head)]
  for method in methods:
    if method == 'adapad':
      continue
    pairs = [
      paired(scores(rows, 'adapad', task), scores(rows, method, task)) for task in tasks
    ]
    pairs.append(paired(averages(rows, 'adapad', tasks), averages(rows, method, tasks)))
    lines.append([method, *(_interval(pair) for pair in pairs)])
  return _markdown(lines)


def _interval(pair: Mapping[str, float]) -> str:
  if np.isnan(pair['mean']):
    return ''
  if np.isnan(pair['low']):
    return f'{pair["mean"]:+.1f}'
  return f'{pair["mean"]:+.1f} [{pair["low"]:+.1f}, {pair["high"]:+.1f}]'


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
  """Names that no other point beats with fewer parameters or a higher metric.

  Args:
    points: name -> (parameters, metric).
  """
  best, kept = -np.inf, []
  for name, (_, metric) in sorted(points.items(), key=lambda p: (p[1][0], -p[1][1])):
    if metric > best:
      best = metric
      kept.append(name)
  return kept


def _markdown(lines: Sequence[Sequence[str]]) -> str:
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
