"""Markdown tables of recorded rows."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from experiments.results import Row

_OWN = ('figure', 'value', 'unit', 'low', 'high', 'when')


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
  """A table with a line under its head."""
  whole = [head, ['---'] * len(head), *lines]
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in whole)


def mean_sd(values: Sequence[float]) -> str:
  """'91.2 ± 0.3', or the mean alone of one value."""
  mean = f'{np.mean(values):.1f}'
  return mean if len(values) < 2 else f'{mean} ± {np.std(values, ddof=1):.1f}'


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
