"""The report of a regression: how it went, and what each prefix explains."""

import functools
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from adapad_jax.files import read_json
from adapad_jax.report import tables
from adapad_jax.report.drawings import Drawing
from adapad_jax.report.page import Picture, cards, code, figures, heading, page, section
from adapad_jax.report.run import Series, read_series
from adapad_jax.report.theme import Theme, legend
from adapad_jax.training.terminal import number
from adapad_jax.workdir import CONFIG, METRICS, RESULT, command_for, stored

if TYPE_CHECKING:
  from matplotlib.figure import Figure

_SIZE = (5.6, 3.5)
_LINES = {
  'train/excess': 'objective beyond the exact fit',
  'train/moved': 'movement of the component that moved most',
}


def regression_page(workdir: pathlib.Path) -> tuple[str, list[Picture]]:
  """The page of a finished run, and its figures."""
  result = read_json(workdir / RESULT, stored.REGRESSION)
  series = read_series(workdir / METRICS)
  pictures = [drawing.picture() for drawing in _drawings(series, result)]
  title = f'{result["task"]} by {result["method"]}'
  size = f'{result["inputs"]} inputs, {result["outputs"]} outputs'
  config = read_json(workdir / CONFIG, dict)
  parts = [
    heading(
      title, [f'{result["examples"]} examples, {size}, {workdir.resolve().name}']
    ),
    _summary(result),
    section('Figures', figures(pictures)),
    section('Commands', code(command_for('eval', workdir))),
    section('Provenance', tables.origin(config, result['versions'])),
  ]
  return page(title, parts), pictures


def _summary(result: Mapping[str, Any]) -> str:
  return cards(
    [
      ('test error', number(result['test_error']), 'share of ||Y||^2 left over'),
      (
        'train error',
        number(result['train_error']),
        f'exact fit of this rank: {number(result["train_error_exact"])}',
      ),
      ('components', str(result['active']), f'of at most {result["rank"]}'),
      ('rounds', str(result['rounds']), f'{result["local_steps"]} local steps each'),
      ('time', tables.duration(result['seconds']), 'compilation included'),
    ]
  )


def _drawings(series: Mapping[str, Series], result: Mapping[str, Any]) -> list[Drawing]:
  found = [
    Drawing(
      'prefixes',
      'Error of every prefix',
      'Share of the squared outputs that the first k components leave over.',
      functools.partial(_prefix_curve, result),
      _SIZE,
    )
  ]
  if any(name in series for name in _LINES):
    found.append(
      Drawing(
        'rounds',
        'Convergence',
        'Excess and movement after every round; what rounding has brought to zero'
        ' or below is left out.',
        functools.partial(_round_curve, series),
        _SIZE,
      )
    )
  return found


def _prefix_curve(result: Mapping[str, Any], figure: 'Figure', theme: Theme) -> None:
  axes = figure.subplots()
  values = [np.nan if v is None else v for v in result['test_error_of_prefixes']]
  axes.plot(values, 'o-', color=theme.cycle[0], label='test rows')
  axes.set_ylim(bottom=0)
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_xlabel('components kept')
  axes.set_ylabel('error')
  legend(axes, 1)


def _round_curve(series: Mapping[str, Series], figure: 'Figure', theme: Theme) -> None:
  axes = figure.subplots()
  for color, (name, label) in zip(theme.cycle, _LINES.items(), strict=False):
    if name in series:
      one = series[name]
      shown_T = np.where(one.values > 0, one.values, np.nan)
      axes.plot(one.rounds, shown_T, color=color, label=label)
  axes.set_yscale('log')
  axes.set_xlabel('round')
  legend(axes, 1)
