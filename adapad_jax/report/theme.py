"""Two looks, one for light and one for dark pages, and how figures are drawn in them.

Lines and marks take the colours of Okabe and Ito, which remain apart for colour-blind
readers; heat maps take viridis, whose lightness alone tells the order.
"""

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

HEAT = 'viridis'
_DPI = 130


@dataclasses.dataclass(frozen=True)
class Theme:
  """Colours of a look.

  Attributes:
    name: suffix of its files.
    paper, ink, faint: background, text and lines, grid.
    cycle: of lines, the first is the main one.
  """

  name: str
  paper: str
  ink: str
  faint: str
  cycle: tuple[str, ...]


LIGHT = Theme(
  'light',
  '#ffffff',
  '#1f2328',
  '#d8dee4',
  ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#b8860b', '#56b4e9', '#444444'),
)
DARK = Theme(
  'dark',
  '#161b22',
  '#e6edf3',
  '#3d444d',
  ('#56b4e9', '#e69f00', '#2fc79a', '#e59cc7', '#f0e442', '#d5794a', '#b0b0b0'),
)
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')

Draw = Callable[['Figure', Theme], None]


def render(draw: Draw, size: tuple[float, float], theme: Theme) -> bytes:
  """A figure of so many inches as PNG.

  Neither a backend nor pyplot is involved: nothing global changes, and no screen is
  needed.
  """
  from matplotlib.figure import Figure

  with _style(theme):
    figure = Figure(figsize=size, dpi=_DPI, layout='constrained')
    draw(figure, theme)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', metadata={'Software': None})
  return buffer.getvalue()


def legend(axes: 'Axes', columns: int) -> None:
  """Names the lines above the axes: inside, it would cover some of them."""
  axes.figure.legend(
    *axes.get_legend_handles_labels(),
    loc='outside upper center',
    ncols=columns,
    fontsize=8,
  )


@contextlib.contextmanager
def _style(theme: Theme) -> Iterator[None]:
  import matplotlib
  from cycler import cycler

  settings = {
    'figure.facecolor': theme.paper,
    'axes.facecolor': theme.paper,
    'savefig.facecolor': theme.paper,
    'text.color': theme.ink,
    'axes.labelcolor': theme.ink,
    'axes.edgecolor': theme.ink,
    'xtick.color': theme.ink,
    'ytick.color': theme.ink,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': theme.faint,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.prop_cycle': cycler(color=theme.cycle),
    'legend.frameon': False,
    'lines.linewidth': 1.8,
    'font.size': 10,
    'axes.titlesize': 10,
    'axes.titlelocation': 'left',
  }
  with matplotlib.rc_context(settings):
    yield
