"""What one run is worth at every rank: its prefixes beside LoRA trained at each rank.

A size is the average number of components a module; values are averages over tasks,
by seed.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.figures import panels, save
from experiments.glue.summary import averages, finite, of
from experiments.results import Row
from experiments.tables import markdown, mean_sd

Curve = list[tuple[float, list[float]]]


def curves(rows: Sequence[Row], tasks: Sequence[str], budget: int) -> dict[str, Curve]:
  """Name -> (size, values by seed), of rows of several budgets.

  AdaPaD's prefixes are those of its runs at one budget; LoRA's cuts are those of its
  largest rank, by singular values.
  """
  trained = of(rows, 'lora')
  ranks = sorted({row['budget'] for row in trained})
  found = {'AdaPaD, prefixes of one run': prefixes(of(rows, 'adapad', budget), tasks)}
  lora = [
    (float(rank), list(averages(of(trained, 'lora', rank), tasks).values()))
    for rank in ranks
  ]
  found['LoRA, trained at each rank'] = [point for point in lora if point[1]]
  if ranks:
    whole = of(trained, 'lora', ranks[-1])
    name = f'LoRA of rank {ranks[-1]}, cut by singular values'
    found[name] = prefixes(whole, tasks, 'spectral_prefixes')
  return {name: curve for name, curve in found.items() if curve}


def prefixes(rows: Sequence[Row], tasks: Sequence[str], key: str = 'prefixes') -> Curve:
  """The metric of one method's runs cut to their first 1, 2, ... components."""
  by = {(row['task'], row['seed']): row for row in finite(rows)}
  seeds = {seed for _, seed in by}
  seeds = [s for s in sorted(seeds) if all((task, s) in by for task in tasks)]
  if not seeds:
    return []
  most = len(by[tasks[0], seeds[0]][key])
  curve = []
  for k in range(1, most):
    runs = [[by[task, seed] for task in tasks] for seed in seeds]
    size = np.mean([np.minimum(row['rank_M'], k) for own in runs for row in own])
    curve.append(
      (float(size), [100 * np.mean([row[key][k] for row in own]) for own in runs])
    )
  return curve


def table(found: dict[str, Curve]) -> str:
  """A row for every curve: sizes, and means with spreads over seeds."""
  lines = [
    [name, ', '.join(f'{size:.2f}: {mean_sd(values)}' for size, values in curve)]
    for name, curve in found.items()
  ]
  return markdown(['average over the tasks', 'components a module: points'], lines)


def draw(found: dict[str, Curve], path: pathlib.Path) -> None:
  """Means with standard deviations over seeds, against the average size."""
  figure, [panel] = panels(1, 6.4, 4.0)
  for (name, curve), marker in zip(found.items(), 'os^', strict=False):
    sizes = [size for size, _ in curve]
    means = [np.mean(values) for _, values in curve]
    spreads = [np.std(values, ddof=1) if len(values) > 1 else 0 for _, values in curve]
    panel.errorbar(sizes, means, spreads, marker=marker, capsize=3, label=name)
  panel.set_xscale('log', base=2)
  panel.set_xticks([1, 2, 4, 8], ['1', '2', '4', '8'])
  panel.set_xlabel('components of a module, on average')
  panel.set_ylabel('mean metric of the tasks, points')
  panel.grid(alpha=0.3)
  panel.legend(loc='lower right')
  save(figure, path)
