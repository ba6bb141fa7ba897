"""Modules arranged as kinds (rows) times layers (columns), and heat maps of that."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from adapad_jax.report.theme import HEAT
from adapad_jax.training.terminal import kind_of

if TYPE_CHECKING:
  from matplotlib.axes import Axes

OUTSIDE = '-'
DEPTH = 'layer (0 is nearest to the input)'
_MOST_NUMBERS = 24
# Of the colour scale; above it the colour is light and wants dark numbers.
LIGHT_FROM = 0.6


@dataclasses.dataclass(frozen=True)
class Grid:
  """Where each module stands.

  Attributes:
    kinds: rows, 'attention.self.query'.
    layers: columns, as text; OUTSIDE for modules that belong to no layer.
    cells: (row, column) of every module.
  """

  kinds: tuple[str, ...]
  layers: tuple[str, ...]
  cells: Mapping[str, tuple[int, int]]

  @classmethod
  def of(cls, modules: Iterable[str]) -> 'Grid':
    """Rows in order of appearance, columns in order of depth."""
    places = {name: kind_of(name) for name in modules}
    kinds = tuple(dict.fromkeys(kind for kind, _ in places.values()))
    numbers = {layer for _, layer in places.values()}
    depth = lambda layer: np.inf if layer is None else layer
    layers = sorted(numbers, key=depth)
    cells = {
      name: (kinds.index(kind), layers.index(layer))
      for name, (kind, layer) in places.items()
    }
    shown = tuple(OUTSIDE if layer is None else str(layer) for layer in layers)
    return cls(kinds, shown, cells)

  def fill(self, values: Mapping[str, float]) -> np.ndarray:
    """Values in their places, (K, N); NaN where there is no module."""
    table_KN = np.full((len(self.kinds), len(self.layers)), np.nan)
    for name, value in values.items():
      table_KN[self.cells[name]] = value
    return table_KN

  def size(self) -> tuple[float, float]:
    """Inches of a heat map with its labels."""
    labels = 0.075 * max(len(kind) for kind in self.kinds)
    width = labels + 1.5 + 0.36 * len(self.layers)
    return max(width, 5.6), 1.2 + 0.34 * len(self.kinds)


def heat_map(
  axes: 'Axes', grid: Grid, values_KN: np.ndarray, norm: Any, numbers: bool
) -> Any:
  """Draws a heat map of all modules; returns what a colour bar needs."""
  image = axes.imshow(values_KN, cmap=HEAT, norm=norm, aspect='auto')
  axes.grid(False)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  every = -(-len(grid.layers) // _MOST_NUMBERS)
  axes.set_xticks(range(0, len(grid.layers), every), grid.layers[::every])
  axes.set_yticks(range(len(grid.kinds)), grid.kinds)
  axes.set_xlabel(DEPTH)
  if numbers and len(grid.layers) <= _MOST_NUMBERS:
    write_numbers(axes, values_KN, norm, '{:.0f}')
  return image


def write_numbers(axes: 'Axes', values_XY: np.ndarray, norm: Any, shape: str) -> None:
  """Writes every value into its place, in the colour that can be read there."""
  for (row, column), value in np.ndenumerate(values_XY):
    if np.isfinite(value):
      is_light = norm(value) > LIGHT_FROM
      text = shape.format(value)
      color = '#000000' if is_light else '#ffffff'
      axes.text(column, row, text, ha='center', va='center', color=color, fontsize=9)
