"""Where the seconds went."""

from typing import TYPE_CHECKING

from adapad_jax.report.run import Run
from adapad_jax.report.theme import Theme

if TYPE_CHECKING:
  from matplotlib.figure import Figure

SIZE = (5.6, 3.0)


def phase_bars(run: Run, figure: 'Figure', theme: Theme) -> None:
  """Seconds of each phase, and its share of the run."""
  phases = run.result['phases']
  total = sum(phases.values()) or 1.0
  axes = figure.subplots()
  bars = axes.barh(list(phases), list(phases.values()), color=theme.cycle[0])
  labels = [f' {value:.1f} s ({value / total:.0%})' for value in phases.values()]
  axes.bar_label(bars, labels, fontsize=9)
  axes.invert_yaxis()
  axes.margins(x=0.3)
  axes.grid(axis='y', visible=False)
  axes.set_xlabel('seconds of wall time')
