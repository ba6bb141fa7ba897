"""The two figures: truncation curves, and metric against parameters."""

import collections
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from experiments.glue_table.summary import Row, averages, finite, front, scores  # noqa: E402


def draw_truncation(
  rows: Sequence[Row], methods: Sequence[str], tasks: Sequence[str], path: pathlib.Path
) -> None:
  """Metric of adapters cut to their first components, one panel a task.

  Solid: by singular values of the update, the best cut there is. Dashed: the method's
  own order, where it has one. The model without any component is left out: it would
  flatten everything else.
  """
  figure, panels = plt.subplots(1, len(tasks), figsize=(4 * len(tasks), 3.5))
  for panel, task in zip(np.atleast_1d(panels), tasks, strict=True):
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
  np.atleast_1d(panels)[0].set_ylabel('metric, points')
  handles, labels = np.atleast_1d(panels)[0].get_legend_handles_labels()
  np.atleast_1d(panels)[0].legend(handles, labels, fontsize=7)
  _save(figure, path)


def draw_front(
  rows: Sequence[Row], methods: Sequence[str], tasks: Sequence[str], path: pathlib.Path
) -> list[str]:
  """Metric against adapter parameters over budgets, by task and on average.

  Filled: on the front. Full fine-tuning is a line across; the head alone, which would
  flatten everything else, is left out.

  Returns:
    the names on the front of the average.
  """
  named = {'average': lambda own: averages(own, tasks)}
  named |= {task: functools.partial(scores, task=task) for task in tasks}
  across = min(len(named), 3)
  down = -(-len(named) // across)
  figure, panels = plt.subplots(
    down, across, figsize=(4 * across, 3.5 * down), squeeze=False
  )
  fronts = {}
  for panel, (name, values_of) in zip(panels.flat, named.items(), strict=False):
    points = _points(rows, values_of)
    fronts[name] = front(points)
    for i, method in enumerate(methods):
      _draw_method(panel, method, points, fronts[name], f'C{i}')
    panel.set(title=name, xscale='log')
    panel.set(xlabel='adapter parameters', ylabel='metric, points')
  for unused in panels.flat[len(named) :]:
    unused.remove()
  _legend(panels)
  _save(figure, path)
  return [f'{method} {budget}' for method, budget in fronts['average']]


def _points(
  rows: Sequence[Row], values_of: Callable[[Sequence[Row]], Mapping[int, float]]
) -> dict[tuple[str, int], tuple[float, float]]:
  """(method, budget) -> parameters of the adapter and mean metric."""
  groups = collections.defaultdict(list)
  for row in finite(rows):
    groups[row['method'], row['budget']].append(row)
  points = {}
  for key, own in groups.items():
    if values := list(values_of(own).values()):
      size = float(np.median([row['adapter_parameters'] for row in own]))
      points[key] = size, float(np.mean(values))
  return points


def _draw_method(
  panel: plt.Axes,
  method: str,
  points: Mapping[tuple[str, int], tuple[float, float]],
  best: Sequence[tuple[str, int]],
  colour: str,
) -> None:
  """One method's budgets as a line; see `draw_front`."""
  own = [key for key in sorted(points) if key[0] == method]
  if method == 'head' or not own:
    return
  sizes, metrics = zip(*[points[key] for key in own], strict=True)
  if method == 'full':
    for metric in metrics:
      panel.axhline(metric, color=colour, ls=':', lw=1, label=method)
    return
  panel.plot(sizes, metrics, color=colour, lw=0.8)
  fills = [colour if key in best else 'white' for key in own]
  panel.scatter(sizes, metrics, c=fills, edgecolors=colour, zorder=2, label=method)


def _legend(panels: np.ndarray) -> None:
  """Names what any of the panels shows, in the first."""
  lines = [panel.get_legend_handles_labels() for panel in panels.flat]
  named = {name: line for part in lines for line, name in zip(*part, strict=True)}
  if named:
    panels.flat[0].legend(named.values(), named.keys(), fontsize=7)


def _save(figure: plt.Figure, path: pathlib.Path) -> None:
  figure.tight_layout()
  figure.savefig(path, dpi=120)
  plt.close(figure)
