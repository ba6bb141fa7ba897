"""The report of a run, or of several: one HTML file and its figures as PNG.

`run` reads a workdir, `curves`, `ranks`, `spectra` and `timing` draw one figure a
function, `tables` and `page` make HTML, `write` puts it together. It reads files and
computes nothing with jax. Drawing needs matplotlib, which is imported on first use.

Axis letters: K kinds of modules, N layers, R components of a module, T points in time.
"""

from adapad_jax.report.write import (
  REPORT,
  can_draw,
  figures_of,
  how_to_install,
  write_comparison,
  write_report,
)

__all__ = [
  'REPORT',
  'can_draw',
  'figures_of',
  'how_to_install',
  'write_comparison',
  'write_report',
]
