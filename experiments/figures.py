"""Pictures in one look: lines with bands over seeds, saved as PNG."""

import pathlib
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

from experiments.results import BAND

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402


def panels(
  count: int, width: float = 4.6, height: float = 3.6, across: int = 0
) -> tuple[Any, list[Any]]:
  """A figure and its axes; `across` in a row, or all of them side by side."""
  across = min(across or count, count)
  down = -(-count // across)
  size = (width * across, height * down)
  fig, axes = plt.subplots(
    down, across, figsize=size, layout='constrained', squeeze=False
  )
  for unused in axes.flat[count:]:
    unused.remove()
  return fig, list(axes.flat[:count])


def band(
  axis: Any, x_X: Sequence[float], values_SX: np.ndarray, label: str, **style: Any
) -> None:
  """The median over seeds (rows) as a line, and the middle 80 % of them as a band."""
  low_X, high_X = np.nanquantile(values_SX, BAND, axis=0)
  [line] = axis.plot(x_X, np.nanmedian(values_SX, 0), label=label, **style)
  axis.fill_between(x_X, low_X, high_X, color=line.get_color(), alpha=0.2, lw=0)


def shades(count: int) -> list[Any]:
  """Colours from dark to bright, one a component."""
  return [plt.get_cmap('viridis')(k / max(count, 1)) for k in range(count)]


def save(fig: Any, path: pathlib.Path) -> None:
  """Writes the figure and frees it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  fig.savefig(path, dpi=130, metadata={'Software': None})
  plt.close(fig)
