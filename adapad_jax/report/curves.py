"""Curves over rounds, and over the number of components that are kept."""

from typing import TYPE_CHECKING

import numpy as np

from adapad_jax.report.run import Run, Series
from adapad_jax.report.theme import MARKERS, Theme, legend

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

SIZE = (5.6, 3.5)
_MOST_WORKERS = 6
# Longer curves are drawn faint, with their running mean on top.
_NOISY_FROM = 20
_MOST_LABELS = 9
_NO_METRICS = ('total', '_thresh')


def loss_curve(run: Run, figure: 'Figure', theme: Theme) -> None:
  """The training loss of the deepest prefix and of every worker; validation loss."""
  axes = figure.subplots()
  workers = [f'train/loss_{k}' for k in range(1, _MOST_WORKERS + 1) if trained(run, k)]
  for k, name in enumerate(workers):
    label = f'worker {k + 1}'
    _noisy(axes, run.series[name], theme.cycle[k], label)
  if not workers and 'train/loss' in run.series:
    _noisy(axes, run.series['train/loss'], theme.cycle[0], 'training')
  if 'eval/loss' in run.series:
    held = run.series['eval/loss']
    axes.plot(held.rounds, held.values, 'o--', color=theme.ink, label='validation')
  axes.set_xlabel('round')
  axes.set_ylabel('loss (mean over rows)')
  legend(axes, 3)


def trained(run: Run, worker: int) -> bool:
  """Whether a worker had a loss of its own at some time."""
  series = run.series.get(f'train/loss_{worker}')
  return series is not None and bool(np.any(series.values != 0))


def _noisy(axes: 'Axes', series: Series, color: str, label: str) -> None:
  """A curve that is long is drawn faint, with its running mean on top."""
  rounds_T, values_T = series.rounds, series.values
  if len(values_T) < _NOISY_FROM:
    axes.plot(rounds_T, values_T, color=color, label=label)
    return
  axes.plot(rounds_T, values_T, color=color, alpha=0.2, linewidth=0.8)
  axes.plot(rounds_T, running_mean(values_T), color=color, label=label)


def running_mean(values_T: np.ndarray) -> np.ndarray:
  """The mean over a fifth of the curve around each point; shorter at both ends."""
  reach = max(len(values_T) // 10, 1)
  sums = np.concatenate([[0.0], np.cumsum(values_T)])
  at_T = np.arange(len(values_T))
  low_T, high_T = (
    np.maximum(at_T - reach, 0),
    np.minimum(at_T + reach + 1, len(values_T)),
  )
  return (sums[high_T] - sums[low_T]) / (high_T - low_T)


def metric_curve(run: Run, figure: 'Figure', theme: Theme) -> None:
  """All validation metrics over rounds; the best state and the baseline are marked."""
  axes = figure.subplots()
  for i, name in enumerate(metric_names(run)[: len(theme.cycle)]):
    series = run.series[f'eval/{name}']
    axes.plot(
      series.rounds, series.values, marker=MARKERS[i], color=theme.cycle[i], label=name
    )
  best, value = run.result['best']['step'], run.best()
  if value is not None:
    axes.plot(
      best, value, 'o', markersize=13, fillstyle='none', color=theme.ink, label='best'
    )
  _baseline(axes, run, theme)
  axes.set_xlim(left=0)
  axes.set_xlabel('round')
  axes.set_ylabel('validation metric')
  legend(axes, 3)


def metric_names(run: Run) -> list[str]:
  """Validation metrics but the loss, the deciding one first.

  SQuAD's counts of questions and thresholds of scores have no place on their axis.
  """
  names = [n.removeprefix('eval/') for n in run.series if n.startswith('eval/')]
  shown = [n for n in names if n != 'loss' and not n.endswith(_NO_METRICS)]
  return sorted(shown, key=lambda n: n != run.metric)


def _baseline(axes: 'Axes', run: Run, theme: Theme) -> None:
  value = run.baseline()
  if value is not None:
    label = f'{run.metric} of baseline: {run.result["baseline"]["name"]}'
    axes.axhline(value, color=theme.ink, linestyle=':', linewidth=1.2, label=label)


def truncation_curve(run: Run, figure: 'Figure', theme: Theme) -> None:
  """The metric of the best state with every module cut to its first components."""
  axes = figure.subplots()
  values = [np.nan if v is None else v for v in run.result['prefixes']]
  errors = run.result.get('curve', {}).get('standard_errors', [None] * len(values))
  axes.errorbar(
    range(len(values)),
    values,
    [np.nan if error is None else error for error in errors],
    fmt='o-',
    capsize=3,
    color=theme.cycle[0],
    label=run.metric,
  )
  known = [(k, value) for k, value in enumerate(values) if np.isfinite(value)]
  for k, value in known if len(values) <= _MOST_LABELS else []:
    axes.annotate(
      f'{value:.3f}',
      (k, value),
      xytext=(0, 8),
      textcoords='offset points',
      ha='center',
      fontsize=8,
      bbox={'facecolor': theme.paper, 'edgecolor': 'none', 'pad': 1},
    )
  _baseline(axes, run, theme)
  axes.margins(0.08, 0.15)
  every = -(-len(values) // _MOST_LABELS)
  marks = range(known[0][0] if known else 0, len(values), every)
  axes.set_xticks(marks, [_kept(run, k) for k in marks])
  axes.set_xlabel('components kept per module, at most (adapter parameters)')
  axes.set_ylabel(f'validation {run.metric}')
  legend(axes, 2)


def _kept(run: Run, rank: int) -> str:
  parameters = run.parameters_of_prefix(rank)
  return str(rank) if parameters is None else f'{rank}\n({short(parameters)})'


def short(count: float) -> str:
  """1234567 as '1.23M'."""
  for limit, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if count >= limit:
      return f'{count / limit:.3g}{unit}'
  return f'{count:.0f}'
