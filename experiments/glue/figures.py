"""The two figures: truncation curves, and metric against parameters."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.figures import panels, save
from experiments.glue.summary import averages, finite, front, points, scores
from experiments.results import Row

# Inches of a panel.
_SIZE = 4.0, 3.5


def draw_truncation(
  rows: Sequence[Row],
  methods: Sequence[str],
  tasks: Sequence[str],
  path: pathlib.Path,
) -> None:
  """Metric of adapters cut to their first components, a panel a task.

  Solid: by singular values of the update, the best cut there is. Dashed: the method's
  own order, where it has one. The model without any component is left out: it would
  flatten everything else.
  """
  figure, axes = panels(len(tasks), *_SIZE)
  for panel, task in zip(axes, tasks, strict=True):
    for i, method in enumerate(methods):
      own = [r for r in finite(rows) if r['method'] == method and r['task'] == task]
      if not own or len(own[0]['prefixes']) < 2:
        continue
      colour = f'C{i}'
      for key, style in (('spectral_prefixes', '-'), ('prefixes', '--')):
        if key == 'prefixes' and own[0]['prefixes'] == own[0]['spectral_prefixes']:
          continue
        curve = 100 * np.mean([row[key][1:] for row in own], axis=0)
        kept = np.arange(1, len(curve) + 1)
        label = method if style == '-' else f'{method}, own order'
        panel.plot(kept, curve, style, color=colour, marker='.', label=label)
    panel.set(title=task, xlabel='components kept in a module')
  axes[0].set_ylabel('metric, points')
  axes[0].legend(fontsize=7)
  save(figure, path)


def draw_front(
  rows: Sequence[Row],
  methods: Sequence[str],
  tasks: Sequence[str],
  path: pathlib.Path,
) -> None:
  """Metric against adapter parameters over budgets, by task and on average.

  Filled: on the front. Full fine-tuning is a line across; the head alone, which would
  flatten everything else, is left out.
  """
  named = {'average': lambda own: averages(own, tasks)}
  named |= {task: functools.partial(scores, task=task) for task in tasks}
  figure, axes = panels(len(named), *_SIZE, across=3)
  for panel, (name, values_of) in zip(axes, named.items(), strict=True):
    found = points(rows, values_of)
    best = front(found)
    for i, method in enumerate(methods):
      _draw_method(panel, method, found, best, f'C{i}')
    panel.set(title=name, xscale='log')
    panel.set(xlabel='adapter parameters', ylabel='metric, points')
  _legend(axes)
  save(figure, path)


def _draw_method(
  panel: Any,
  method: str,
  found: Mapping[tuple[str, int], tuple[float, float]],
  best: Sequence[tuple[str, int]],
  colour: str,
) -> None:
  """One method's budgets as a line; see `draw_front`."""
  own = [key for key in sorted(found) if key[0] == method]
  if method == 'head' or not own:
    return
  sizes, metrics = zip(*[found[key] for key in own], strict=True)
  if method == 'full':
    for metric in metrics:
      panel.axhline(metric, color=colour, ls=':', lw=1, label=method)
    return
  panel.plot(sizes, metrics, color=colour, lw=0.8)
  fills = [colour if key in best else 'white' for key in own]
  panel.scatter(sizes, metrics, c=fills, edgecolors=colour, zorder=2, label=method)


def _legend(axes: Sequence[Any]) -> None:
  """Names what any of the panels shows, in the first."""
  lines = [panel.get_legend_handles_labels() for panel in axes]
  named = {name: line for part in lines for line, name in zip(*part, strict=True)}
  if named:
    axes[0].legend(named.values(), named.keys(), fontsize=7)
