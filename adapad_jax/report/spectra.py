"""Singular values of the updates beside their components' norms, and angles."""

from typing import TYPE_CHECKING

import numpy as np

from adapad_jax.report.grid import DEPTH, Grid, heat_map, write_numbers
from adapad_jax.report.run import Run
from adapad_jax.report.theme import HEAT, Theme

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

_MOST_DEPTHS = 7
_BESIDE = 0.16


def spectra_size(run: Run) -> tuple[float, float]:
  """Inches of `spectra_panels`."""
  grid = Grid.of(run.spectra)
  columns = _columns(grid)
  width = columns * (1.0 + 0.34 * len(grid.layers))
  return max(width, 6.4), 1.0 + 1.75 * -(-len(grid.kinds) // columns)


def _columns(grid: Grid) -> int:
  return 1 if len(grid.layers) > 12 or len(grid.kinds) == 1 else 2


def spectra_panels(run: Run, figure: 'Figure', theme: Theme) -> None:
  """Per kind and layer: singular values (circles) beside component norms (squares)."""
  grid = Grid.of(run.spectra)
  columns = _columns(grid)
  axes_XY = figure.subplots(
    -(-len(grid.kinds) // columns), columns, squeeze=False, sharex=True, sharey=True
  )
  for axes, kind in zip(axes_XY.flat, grid.kinds, strict=False):
    axes.set_title(kind)
    axes.set_yscale('log')
    axes.set_xticks(range(len(grid.layers)), grid.layers)
  for axes in axes_XY.flat[len(grid.kinds) :]:
    axes.axis('off')
  for name, one in run.spectra.items():
    row, column = grid.cells[name]
    _module(axes_XY.flat[row], column, one.singular_R, one.norm_R, theme)
  figure.supxlabel(DEPTH, fontsize=10)
  figure.supylabel('Frobenius norm (log scale)', fontsize=10)
  figure.legend(
    handles=_keys(run, theme), loc='outside upper center', ncols=3, fontsize=8
  )


def _module(
  axes: 'Axes', column: int, singular_R: np.ndarray, norm_R: np.ndarray, theme: Theme
) -> None:
  """One module: its values to the left, its components to the right of its layer."""
  for k in range(min(len(norm_R), _MOST_DEPTHS)):
    color = theme.cycle[k]
    if singular_R[k] > 0:
      axes.plot(column - _BESIDE, singular_R[k], 'o', color=color, markersize=5)
    if norm_R[k] > 0:
      axes.plot(
        column + _BESIDE, norm_R[k], 's', color=color, markersize=5, fillstyle='none'
      )


def _keys(run: Run, theme: Theme) -> list[object]:
  from matplotlib.lines import Line2D

  depth = min(max(len(one.norm_R) for one in run.spectra.values()), _MOST_DEPTHS)
  key = lambda marker, fill, color, label: Line2D(
    [], [], linestyle='', marker=marker, fillstyle=fill, color=color, label=label
  )
  return [
    key('o', 'full', theme.ink, 'singular value'),
    key('s', 'none', theme.ink, 'component norm'),
    *(key('D', 'full', theme.cycle[k], f'number {k + 1}') for k in range(depth)),
  ]


def has_angles(run: Run) -> bool:
  """Whether some module has two components."""
  return any(len(one.angles) > 1 for one in run.spectra.values())


def angles_size(run: Run) -> tuple[float, float]:
  """Inches of `angle_maps`."""
  width, height = Grid.of(run.spectra).size()
  return width, height + 0.5 + 0.42 * max(_depth(run), 4)


def _depth(run: Run) -> int:
  return max(len(one.angles) for one in run.spectra.values())


def angle_maps(run: Run, figure: 'Figure', theme: Theme) -> None:
  """Above, the median angle of each pair of components; below, where it is smallest."""
  from matplotlib.colors import Normalize

  del theme
  grid, norm = Grid.of(run.spectra), Normalize(0, 90)
  above, below = figure.subplots(
    2, 1, height_ratios=[max(_depth(run), 4), len(grid.kinds)]
  )
  pairs_RR = median_angles(run)
  image = above.imshow(pairs_RR[1:, :-1], cmap=HEAT, norm=norm, aspect='auto')
  above.grid(False)
  above.tick_params(length=0)
  above.spines[:].set_visible(False)
  count = len(pairs_RR) - 1
  every = -(-count // 12)
  above.set_xticks(range(0, count, every), range(1, count + 1, every))
  above.set_yticks(range(0, count, every), range(2, count + 2, every))
  above.set_xlabel('component')
  above.set_ylabel('component')
  above.set_title('median over modules')
  if count <= 8:
    write_numbers(above, pairs_RR[1:, :-1], norm, '{:.0f}°')
  smallest = {
    name: min(angle for row in one.angles for angle in row)
    for name, one in run.spectra.items()
    if len(one.angles) > 1
  }
  heat_map(below, grid, grid.fill(smallest), norm, numbers=True)
  below.set_title('smallest of each module')
  figure.colorbar(image, ax=[above, below], label='angle (degrees)')


def median_angles(run: Run) -> np.ndarray:
  """Median over modules of the angle between components j < k, (R, R), else NaN."""
  depth = _depth(run)
  median_RR = np.full((depth, depth), np.nan)
  for k in range(depth):
    for j in range(k):
      found = [one.angles[k][j] for one in run.spectra.values() if len(one.angles) > k]
      median_RR[k, j] = np.median(found)
  return median_RR
