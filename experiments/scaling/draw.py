"""A picture of how rate and memory grow with the size of a step."""

import pathlib
from typing import Any

from experiments.figures import panels, save
from experiments.record import recorded

# The case through which all sweeps of `growth` pass.
_CENTRE = {'method': 'split', 'rank': 4, 'rows': 16, 'length': 64}
_LABELS = {'length': 'tokens of a row', 'rows': 'rows of a batch', 'rank': 'rank, r'}


def draw(folder: pathlib.Path) -> None:
  """Draws `growth.png` from `results.jsonl`; nothing where nothing was recorded."""
  rows = [row for row in recorded(folder) if 'rate in a process' in row['figure']]
  if not rows:
    return
  fig, axes = panels(len(_LABELS))
  for axis, name in zip(axes, _LABELS, strict=True):
    memory = axis.twinx()
    for method, style in (('split', '-'), ('replicate', '--')):
      curve = sweep(rows, method, name)
      if len(curve) > 1:
        sizes = [row[name] for row in curve]
        axis.plot(
          sizes, [row['value'] for row in curve], style, marker='o', label=method
        )
        memory.plot(sizes, [row['peak_gib'] for row in curve], style, color='grey')
    axis.set_xscale('log', base=2)
    axis.set_xlabel(_LABELS[name])
    axis.set_ylim(bottom=0)
    memory.set_ylim(bottom=0)
  axes[0].set_ylabel('tokens a second')
  memory.set_ylabel('peak of memory, GiB (grey)')
  axes[-1].legend()
  save(fig, folder, 'growth.png')


def sweep(rows: list[dict[str, Any]], method: str, name: str) -> list[dict[str, Any]]:
  """The rows of a method that differ from the centre in one field, by that field."""
  same = {k: v for k, v in (_CENTRE | {'method': method}).items() if k != name}
  return sorted((r for r in rows if same.items() <= r.items()), key=lambda r: r[name])
