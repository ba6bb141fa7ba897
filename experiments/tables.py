"""Markdown tables of recorded rows."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from experiments.results import Row

_OWN = ('figure', 'value', 'unit', 'low', 'high', 'when')


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
  """A table with a line under its head."""
  whole = [head, ['---'] * len(head), *lines]
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in whole)


def mean_sd(values: Sequence[float], digits: int = 1) -> str:
  """'91.2 ± 0.3', or the mean alone of one value."""
  mean = f'{np.mean(values):.{digits}f}'
  if len(values) < 2:
    return mean
  return f'{mean} ± {np.std(values, ddof=1):.{digits}f}'


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


def paired_text(
  first: Mapping[int, float], second: Mapping[int, float], digits: int = 4
) -> str:
  """'-0.2000 [-1.4706, +1.0706]': `paired` in words; nothing without common seeds."""
  found = paired(first, second)
  show = lambda name: f'{found[name]:+.{digits}f}'
  if not found['seeds']:
    return ''
  if found['seeds'] < 2:
    return show('mean')
  return f'{show("mean")} [{show("low")}, {show("high")}]'


def figures(rows: Sequence[Row]) -> str:
  """Every row: its figure, value with the middle 80 % of seeds, unit, and details."""
  lines = []
  for row in rows:
    value = _text(row['value'])
    if 'low' in row:
      value += f' ({_text(row["low"])} to {_text(row["high"])})'
    details = [f'{k}={_text(v)}' for k, v in row.items() if k not in _OWN]
    lines.append([row['figure'].replace('|', '\\|'), value, row['unit']])
    lines[-1] += [', '.join(details).replace('|', '\\|')]
  return markdown(['figure', 'value', 'unit', 'details'], lines)


def _text(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.4g}'
  return value if isinstance(value, str) else json.dumps(value)
