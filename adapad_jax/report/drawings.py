"""Which figures a run's report has, in the order of its sections."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from adapad_jax.report import curves, ranks, spectra, timing
from adapad_jax.report.grid import Grid
from adapad_jax.report.page import Picture
from adapad_jax.report.run import Run
from adapad_jax.report.theme import DARK, LIGHT, Draw, render


@dataclasses.dataclass(frozen=True)
class Drawing:
  """A figure before it is drawn.

  Attributes:
    name, title, caption: see `Picture`.
    draw: puts it on a figure.
    size: inches.
  """

  name: str
  title: str
  caption: str
  draw: Draw
  size: tuple[float, float]

  def picture(self) -> Picture:
    """Draws it in both looks."""
    light, dark = (render(self.draw, self.size, theme) for theme in (LIGHT, DARK))
    return Picture(self.name, self.title, self.caption, light, dark, self.size[0])


def learning(run: Run) -> list[Drawing]:
  """Curves over rounds."""
  found = []
  if curves.metric_names(run):
    found.append(
      Drawing(
        'metric',
        'Validation metrics',
        'The circle marks the state that was kept as the best.',
        functools.partial(curves.metric_curve, run),
        curves.SIZE,
      )
    )
  if 'train/loss' in run.series:
    found.append(
      Drawing(
        'loss',
        'Loss',
        'Thin: as logged; thick: running mean. Worker k trains component k of every'
        ' module on top of the components before it.'
        if curves.trained(run, 1)
        else 'Thin: as logged; thick: running mean.',
        functools.partial(curves.loss_curve, run),
        curves.SIZE,
      )
    )
  return found


def rank(run: Run) -> list[Drawing]:
  """Where the ranks are and how they came there."""
  found = [
    Drawing(
      'ranks',
      'Rank of every module',
      'At the end of the run.',
      functools.partial(ranks.rank_map, run),
      Grid.of(run.ranks).size(),
    )
  ]
  if ranks.has_grown(run):
    found += _growth(run)
  if run.snapshots and run.snapshots[-1].importance is not None:
    found.append(
      Drawing(
        'importance',
        'Importance and uncertainty',
        'Moving averages at the last evaluation: importance is the mean of'
        ' |w dL/dw| over the entries of a module, uncertainty how much it varies from'
        ' round to round.',
        functools.partial(ranks.importance_maps, run),
        ranks.importance_size(run),
      )
    )
  return found


def _growth(run: Run) -> list[Drawing]:
  return [
    Drawing(
      'growth',
      'How the rank grew',
      'Above, all components; below, the mean over the layers of every kind of module.',
      functools.partial(ranks.growth, run),
      (5.6, 5.2),
    ),
    Drawing(
      'moments',
      'The rank map over time',
      'The same map at a few times of the run, in one colour scale.',
      functools.partial(ranks.rank_moments, run),
      ranks.moments_size(run),
    ),
  ]


def budget(run: Run) -> list[Drawing]:
  """The ledger."""
  if not run.grants:
    return []
  return [
    Drawing(
      'ledger',
      'Who got which component when',
      'One mark a grant; its number is the component that was added. Modules that'
      ' kept their first component only are left out. In every allocation the modules'
      ' with the highest scores get one component each; the score combines importance'
      ' and uncertainty.',
      functools.partial(ranks.ledger_chart, run),
      ranks.ledger_size(run),
    )
  ]


def prefixes(run: Run) -> list[Drawing]:
  """What smaller adapters are worth."""
  if sum(value is not None for value in run.result['prefixes']) < 2:
    return []
  return [
    Drawing(
      'truncation',
      'Truncation curve',
      f'The best state with every module cut to its first components{_scored_on(run)}.',
      functools.partial(curves.truncation_curve, run),
      curves.SIZE,
    )
  ]


def _scored_on(run: Run) -> str:
  """What a reader has to know of the points: rows, error bars, what 0 stands for."""
  curve = run.result.get('curve')
  parts = []
  if curve is not None:
    all_or = '' if curve['rows'] < curve['rows_in_all'] else 'all '
    of = '' if all_or else f' of {curve["rows_in_all"]:,}'
    parts.append(f', scored on {all_or}{curve["rows"]:,}{of} rows of {curve["split"]}')
    if any(curve['standard_errors']):
      parts.append('; bars are one standard error, rows taken as independent')
    if curve.get('aurac') is not None:
      parts.append(f'; {curve["aurac"]:.4f} on average over log2 of the rank (AURAC)')
  if run.result['prefixes'][0] is not None:
    parts.append('; 0 is the trained head alone')
  return ''.join(parts)


def components(run: Run) -> list[Drawing]:
  """What single components are."""
  found = []
  if any(len(one.norm_R) for one in run.spectra.values()):
    found.append(
      Drawing(
        'spectra',
        'Singular values and component norms',
        'Circles: singular values of the update Delta W, the largest is number 1.'
        ' Squares: norms of its components, in order of deflation. They coincide where'
        ' the components are the principal ones.',
        functools.partial(spectra.spectra_panels, run),
        spectra.spectra_size(run),
      )
    )
  if spectra.has_angles(run):
    found.append(
      Drawing(
        'angles',
        'Angles between components of a module',
        'Between components as matrices: 90 degrees is orthogonal, 0 is the same'
        ' direction learned twice.',
        functools.partial(spectra.angle_maps, run),
        spectra.angles_size(run),
      )
    )
  return found


def time(run: Run) -> list[Drawing]:
  """Seconds by phase."""
  if 'phases' not in run.result:
    return []
  return [
    Drawing(
      'time',
      'Time by phase',
      'Rounds include what they wait for; former starts of the program are counted in.',
      functools.partial(timing.phase_bars, run),
      timing.SIZE,
    )
  ]


SECTIONS: Mapping[str, Callable[[Run], list[Drawing]]] = {
  'Learning': learning,
  'Ranks': rank,
  'Budget': budget,
  'Smaller adapters': prefixes,
  'Components': components,
  'Time': time,
}
