"""Several runs side by side."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from adapad_jax.report.curves import SIZE, running_mean, short
from adapad_jax.report.drawings import Drawing
from adapad_jax.report.grid import Grid, heat_map
from adapad_jax.report.page import table
from adapad_jax.report.run import Run
from adapad_jax.report.tables import duration, setting
from adapad_jax.report.theme import MARKERS, Theme, legend
from adapad_jax.training.terminal import number

if TYPE_CHECKING:
  from matplotlib.figure import Figure

Runs = Sequence[Run]


def drawings(runs: Runs) -> list[Drawing]:
  """The figures of a comparison."""
  make = lambda name, title, caption, draw, size=SIZE: Drawing(
    name, title, caption, functools.partial(draw, runs), size
  )
  found = [
    make('metric', 'Validation metric', 'Over the fraction of each run.', metric),
    make('loss', 'Training loss', 'Running means.', loss),
    make('truncation', 'Truncation curves', 'Best states, cut.', truncation),
    make(
      'parameters',
      'Metric against size',
      'Best state of every run against its adapter parameters, the head not counted.',
      parameters,
    ),
  ]
  if len({frozenset(run.ranks) for run in runs}) == 1:
    caption = 'At the end of every run, in one colour scale.'
    found.append(make('ranks', 'Ranks', caption, rank_maps, _maps_size(runs)))
  return found


def outcome(runs: Runs) -> str:
  """One row a run."""
  rows = [
    [
      run.name,
      run.result['task'],
      run.result['method'],
      f'{run.metric} {number(run.best())}',
      run.result.get('best_rank_total', run.result['rank_total']),
      short(run.result['adapter_parameters']),
      run.result['rounds'],
      duration(run.result['seconds']),
    ]
    for run in runs
  ]
  header = ['run', 'task', 'method', 'best', 'rank', 'parameters', 'rounds', 'time']
  return table(header, rows)


def differences(runs: Runs) -> str:
  """The fields of the configs that are not the same in all runs."""
  flat = [setting(run.config) for run in runs]
  names = dict.fromkeys(name for one in flat for name in one)
  rows = [
    [name, *(str(one.get(name, '-')) for one in flat)]
    for name in names
    if len({str(one.get(name, '-')) for one in flat}) > 1
  ]
  if not rows:
    return '<p>Nothing.</p>\n'
  return table(['field', *(run.name for run in runs)], rows)


def _look(theme: Theme, i: int) -> dict[str, object]:
  """Colour, mark and dashes of the i-th run: no two of them alike for a long time."""
  dashes = ('-', '--', ':')
  return {
    'color': theme.cycle[i % len(theme.cycle)],
    'marker': MARKERS[i % len(MARKERS)],
    'linestyle': dashes[(i // len(theme.cycle)) % len(dashes)],
    'markersize': 5,
  }


def _metric_label(runs: Runs) -> str:
  return 'validation ' + ' or '.join(dict.fromkeys(run.metric for run in runs))


def metric(runs: Runs, figure: 'Figure', theme: Theme) -> None:
  """The deciding metric over the fraction of the run."""
  axes = figure.subplots()
  for i, run in enumerate(runs):
    series = run.series.get(f'eval/{run.metric}')
    if series is not None:
      done_T = series.rounds / run.result['rounds']
      axes.plot(done_T, series.values, label=run.name, **_look(theme, i))
  axes.set_xlim(0, 1.03)
  axes.set_xlabel('fraction of the run')
  axes.set_ylabel(_metric_label(runs))
  legend(axes, 2)


def loss(runs: Runs, figure: 'Figure', theme: Theme) -> None:
  """Running means of the training loss."""
  axes = figure.subplots()
  for i, run in enumerate(runs):
    series = run.series.get('train/loss')
    if series is not None:
      done_T = series.rounds / run.result['rounds']
      every = max(len(done_T) // 6, 1)
      mean_T = running_mean(series.values)
      axes.plot(done_T, mean_T, label=run.name, markevery=every, **_look(theme, i))
  axes.set_xlabel('fraction of the run')
  axes.set_ylabel('training loss (mean over rows)')
  legend(axes, 2)


def truncation(runs: Runs, figure: 'Figure', theme: Theme) -> None:
  """Metric of every prefix of every run."""
  axes = figure.subplots()
  for i, run in enumerate(runs):
    values = [np.nan if v is None else v for v in run.result['prefixes']]
    axes.plot(range(len(values)), values, label=run.name, **_look(theme, i))
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_xlabel('components kept per module, at most')
  axes.set_ylabel(_metric_label(runs))
  legend(axes, 2)


def parameters(runs: Runs, figure: 'Figure', theme: Theme) -> None:
  """Metric against adapter parameters."""
  axes = figure.subplots()
  for i, run in enumerate(runs):
    look = _look(theme, i) | {'markersize': 9, 'linestyle': ''}
    value = run.best()
    if value is not None:
      axes.plot(run.result['adapter_parameters'], value, label=run.name, **look)
  axes.xaxis.set_major_formatter(lambda value, _: short(value))
  axes.margins(0.15)
  axes.set_xlabel('adapter parameters')
  axes.set_ylabel(_metric_label(runs))
  legend(axes, 2)


def _maps_size(runs: Runs) -> tuple[float, float]:
  width, height = Grid.of(runs[0].ranks).size()
  return width, 0.6 + len(runs) * (height - 0.5)


def rank_maps(runs: Runs, figure: 'Figure', theme: Theme) -> None:
  """Final ranks of every run."""
  from matplotlib.colors import Normalize

  del theme
  grid = Grid.of(runs[0].ranks)
  norm = Normalize(0, max(max(run.ranks.values()) for run in runs) or 1)
  axes_X = figure.subplots(len(runs), 1, squeeze=False, sharex=True)[:, 0]
  for axes, run in zip(axes_X, runs, strict=True):
    image = heat_map(axes, grid, grid.fill(run.ranks), norm, numbers=True)
    axes.set_title(f'{run.name}: {run.result["rank_total"]} components')
    axes.label_outer()
  bar = figure.colorbar(image, ax=axes_X, label='rank (components)')
  bar.ax.yaxis.get_major_locator().set_params(integer=True)
