"""Ranks: where they are, how they grew, why, and who got what when."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from adapad_jax.report.grid import DEPTH, LIGHT_FROM, Grid, heat_map
from adapad_jax.report.run import Run
from adapad_jax.report.theme import HEAT, MARKERS, Theme
from adapad_jax.training.terminal import kind_of

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

_MOMENTS = 4
_WIDE_FROM = 12


def rank_map(run: Run, figure: 'Figure', theme: Theme) -> None:
  """Rank of every module at the end, kinds times layers."""
  del theme
  grid = Grid.of(run.ranks)
  axes = figure.subplots()
  image = heat_map(axes, grid, grid.fill(run.ranks), _rank_norm(run), numbers=True)
  bar = figure.colorbar(image, ax=axes, label='rank (components)')
  bar.ax.yaxis.get_major_locator().set_params(integer=True)


def _rank_norm(run: Run) -> object:
  from matplotlib.colors import Normalize

  return Normalize(0, max(*run.ranks.values(), 1))


def history(run: Run) -> list[tuple[int, Mapping[str, int]]]:
  """(round, ranks after it) whenever they changed; the start and the end included."""
  if run.grants:
    times = dict.fromkeys([0, *(grant.round for grant in run.grants)])
    return [(when, run.ranks_after(when)) for when in times]
  return [(shot.round, shot.rank) for shot in run.snapshots]


def has_grown(run: Run) -> bool:
  """Whether ranks ever changed."""
  totals = {tuple(ranks.values()) for _, ranks in history(run)}
  return len(totals) > 1


def moments(run: Run) -> list[tuple[int, Mapping[str, int]]]:
  """At most four of the history, evenly spread, the first and the last included."""
  all_of_them = history(run)
  count = min(_MOMENTS, len(all_of_them))
  at = np.linspace(0, len(all_of_them) - 1, count).round().astype(int)
  return [all_of_them[i] for i in at]


def moments_size(run: Run) -> tuple[float, float]:
  """Inches of `rank_moments`."""
  grid, count = Grid.of(run.ranks), len(moments(run))
  columns = _columns(grid, count)
  labels = 0.075 * max(len(kind) for kind in grid.kinds)
  rows = -(-count // columns)
  width = labels + 0.9 + columns * (0.2 + 0.24 * len(grid.layers))
  return max(width, 5.6), 0.8 + rows * (0.45 + 0.24 * len(grid.kinds))


def _columns(grid: Grid, count: int) -> int:
  return 1 if len(grid.layers) > _WIDE_FROM else min(2, count)


def rank_moments(run: Run, figure: 'Figure', theme: Theme) -> None:
  """Rank maps at a few times of the run, in one colour scale."""
  del theme
  grid, shown = Grid.of(run.ranks), moments(run)
  columns = _columns(grid, len(shown))
  axes_XY = figure.subplots(
    -(-len(shown) // columns), columns, squeeze=False, sharex=True, sharey=True
  )
  norm, image = _rank_norm(run), None
  for axes, (when, ranks) in zip(axes_XY.flat, shown, strict=False):
    image = heat_map(axes, grid, grid.fill(ranks), norm, numbers=False)
    axes.set_title(f'round {when}: {sum(ranks.values())} in total')
    axes.set_xlabel('')
    axes.label_outer()
  figure.supxlabel(DEPTH, fontsize=10)
  for axes in axes_XY.flat[len(shown) :]:
    axes.axis('off')
  bar = figure.colorbar(image, ax=axes_XY, label='rank (components)')
  bar.ax.yaxis.get_major_locator().set_params(integer=True)


def growth(run: Run, figure: 'Figure', theme: Theme) -> None:
  """Components in total, and on average in every kind of module, over rounds."""
  above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.5])
  points, end = history(run), run.result['rounds']
  rounds = [when for when, _ in points] + [end]
  totals = [sum(ranks.values()) for _, ranks in points]
  above.step(rounds, [*totals, totals[-1]], where='post', color=theme.cycle[0])
  above.axhline(run.result['budget'], color=theme.ink, linestyle=':', linewidth=1.2)
  above.set_ylabel('components')
  above.annotate(
    f'budget {run.result["budget"]}',
    (0, run.result['budget']),
    xytext=(2, -11),
    textcoords='offset points',
    fontsize=8,
  )
  below.set_ylabel('mean rank')
  below.set_xlabel('round')
  kinds = Grid.of(run.ranks).kinds
  for i, kind in enumerate(kinds):
    means = [_mean_of(kind, ranks) for _, ranks in points]
    # A marker at every change would cover the line of a long run.
    every = max(len(means) // 8, 1)
    below.plot(
      rounds,
      [*means, means[-1]],
      drawstyle='steps-post',
      color=theme.cycle[i % len(theme.cycle)],
      marker=MARKERS[i % len(MARKERS)],
      markersize=4,
      markevery=every,
      # Thinner and thinner, so that equal lines remain visible.
      linewidth=1.0 + 0.5 * (len(kinds) - 1 - i),
      label=kind,
    )
  figure.legend(
    *below.get_legend_handles_labels(), loc='outside lower center', ncols=2, fontsize=8
  )


def _mean_of(kind: str, ranks: Mapping[str, int]) -> float:
  return float(np.mean([r for name, r in ranks.items() if kind_of(name)[0] == kind]))


def importance_maps(run: Run, figure: 'Figure', theme: Theme) -> None:
  """Importance and uncertainty of every module at the last evaluation, in log scale."""
  del theme
  shot = run.snapshots[-1]
  grid = Grid.of(run.ranks)
  panels = [('importance', shot.importance)]
  if shot.uncertainty is not None:
    panels.append(('uncertainty', shot.uncertainty))
  axes_X = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
  for axes, (name, values) in zip(axes_X, panels, strict=True):
    _magnitudes(axes, grid, values, name)


def importance_size(run: Run) -> tuple[float, float]:
  """Inches of `importance_maps`."""
  width, height = Grid.of(run.ranks).size()
  return width, height * (1.7 if run.snapshots[-1].uncertainty is not None else 1.0)


def _magnitudes(
  axes: 'Axes', grid: Grid, values: Mapping[str, float], name: str
) -> None:
  from matplotlib.colors import LogNorm

  values_KN = grid.fill(values)
  values_KN = np.where(values_KN > 0, values_KN, np.nan)
  top = np.nanmax(values_KN, initial=1e-30)
  norm = LogNorm(np.nanmin(values_KN, initial=top * 0.99), top)
  image = heat_map(axes, grid, values_KN, norm, numbers=False)
  axes.set_title(name)
  axes.label_outer()
  axes.figure.colorbar(image, ax=axes, label='change of the loss')


def ledger_size(run: Run) -> tuple[float, float]:
  """Inches of `ledger_chart`."""
  return 6.4, 1.2 + 0.19 * len(granted(run))


def granted(run: Run) -> list[str]:
  """Modules that got something, in their order."""
  winners = {grant.module for grant in run.grants}
  return [name for name in run.ranks if name in winners]


def ledger_chart(run: Run, figure: 'Figure', theme: Theme) -> None:
  """Every grant: when, to which module, which component, at which score."""
  from matplotlib.colors import LogNorm

  axes = figure.subplots()
  rows = {name: i for i, name in enumerate(granted(run))}
  scores = np.array([grant.score for grant in run.grants])
  positive = scores[scores > 0]
  low, high = (positive.min(), positive.max()) if len(positive) else (0.5, 1.0)
  marks = axes.scatter(
    [grant.round for grant in run.grants],
    [rows[grant.module] for grant in run.grants],
    c=np.maximum(scores, low),
    norm=LogNorm(low, max(high, low * 1.01)),
    cmap=HEAT,
    s=95,
    edgecolors=theme.ink,
    linewidths=0.7,
    zorder=2,
  )
  for grant in run.grants:
    is_light = marks.norm(max(grant.score, low)) > LIGHT_FROM
    axes.text(
      grant.round,
      rows[grant.module],
      str(grant.component),
      ha='center',
      va='center_baseline',
      fontsize=7,
      color='#000000' if is_light else '#ffffff',
      zorder=3,
    )
  names = [f'{"" if n is None else n} {k}'.strip() for k, n in map(kind_of, rows)]
  axes.set_yticks(range(len(rows)), names, fontsize=7)
  axes.set_ylim(len(rows) - 0.4, -0.6)
  axes.set_xlabel('round of the grant')
  axes.set_xlim(left=0)
  axes.set_ylabel('layer and module')
  figure.colorbar(marks, ax=axes, label='score when granted', shrink=0.6)
