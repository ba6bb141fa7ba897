"""The two figures: truncation curves, and metric against parameters."""

import collections
import pathlib
from collections.abc import Sequence

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from experiments.glue_table.summary import Row, averages, finite, front  # noqa: E402


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
  rows: Sequence[Row], tasks: Sequence[str], path: pathlib.Path
) -> list[str]:
  """Average metric against adapter parameters; returns the names on the front."""
  groups = collections.defaultdict(list)
  for row in finite(rows):
    groups[row['method'], row['budget']].append(row)
  points = {}
  for (method, budget), own in groups.items():
    whole = averages(own, tasks)
    if whole:
      size = float(np.median([row['adapter_parameters'] for row in own]))
      points[f'{method} {budget}'] = size, float(np.mean(list(whole.values())))
  best = front(points)
  figure, panel = plt.subplots(figsize=(5, 4))
  for name, (size, metric) in points.items():
    panel.plot(size, metric, 'o' if name in best else 'x', color='C0')
    panel.annotate(name, (size, metric), fontsize=7)
  panel.plot(*zip(*[points[name] for name in best], strict=True), color='C0', lw=0.8)
  panel.set_xscale('symlog', linthresh=1e4)
  panel.set(xlabel='adapter parameters', ylabel=f'average over {", ".join(tasks)}')
  _save(figure, path)
  return best


def _save(figure: plt.Figure, path: pathlib.Path) -> None:
  figure.tight_layout()
  figure.savefig(path, dpi=120)
  plt.close(figure)
