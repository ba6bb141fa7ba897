"""Training steps of all methods, and of all sizes, each in a process of its own.

  python -m experiments.speed.steps
  python -m experiments.speed.steps --sweep=sizes --models=MiniLM --rows=16 \\
      --length=64 --dtype=float32

`methods` is LoRA of torch and PEFT, our LoRA, and adapad in `split` and `replicate`, on
whatever device JAX and torch find; it draws all weights. `sizes` is `split` over
length, rows and rank, and `replicate` over rank.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

from experiments import timing
from experiments.harness import Experiment, Run, main
from experiments.results import Row, matching, row
from experiments.speed.case import KEPT, Case, Sizes, timed

_RATE = ': rate in a process of its own'
# What is drawn of `sizes`, all of them through one case.
_CENTRE = {'method': 'split', 'rank': 4, 'rows': 16, 'length': 64}
_LABELS = {'length': 'tokens of a row', 'rows': 'rows of a batch', 'rank': 'rank, r'}


@dataclasses.dataclass(frozen=True)
class Options(Sizes):
  """What is varied: methods or sizes."""

  sweep: Literal['methods', 'sizes'] = 'methods'


def cases(run: Run) -> list[Case]:
  """What to time, the most telling first."""
  return list(
    dict.fromkeys({'methods': methods, 'sizes': sizes}[run.options.sweep](run))
  )


def methods(run: Run) -> Iterator[Case]:
  """Every method on every model; without dropout, of other ranks, of a large batch."""
  base = run.options.base()
  change = lambda **fields: dataclasses.replace(base, **fields)
  for model in run.options.models:
    for method in ('peft', 'lora', 'split', 'replicate'):
      yield change(model=model, method=method)
  for method in ('peft', 'split'):
    yield change(method=method, dropout=False)
  for rank in (2, 8):
    yield change(method='replicate', rank=rank)
  for method in ('peft', 'split'):
    yield change(method=method, rows=2 * base.rows, length=256)


def sizes(run: Run) -> Iterator[Case]:
  """Length, rows and rank, one at a time."""
  base = run.options.base()
  change = lambda **fields: dataclasses.replace(base, **fields)
  yield base
  yield from (change(length=n) for n in (32, 64, 128, 256))
  yield from (change(rows=n) for n in (8, 16, 32, 64))
  yield from (change(rank=n) for n in (2, 4, 8))
  yield from (change(method='replicate', rank=n) for n in (2, 4, 8))


def figure_of(run: Run, case: Case) -> str:
  return case.name + (_RATE if run.options.sweep == 'sizes' else '')


def key(run: Run, case: Case) -> dict[str, Any]:
  """A step is timed once on a kind of device."""
  return {'figure': figure_of(run, case), 'device': timing.device()}


def env(run: Run, case: Case) -> dict[str, str]:
  """Torch gets all of a card's memory."""
  return {'JAX_PLATFORMS': 'cpu'} if case.method == 'peft' else {}


def measure(run: Run, case: Case) -> Iterator[Row]:
  """The rate, or the time and its ratios to LoRA's of either kind."""
  found, figure = timed(case), figure_of(run, case)
  if run.options.sweep == 'sizes':
    details = {k: found[k] for k in ('step_ms', 'peak_gib', 'peak_of', 'device')}
    rate = found['tokens_per_second']
    yield row(figure, rate, 'tokens/s', **dataclasses.asdict(case), **details)
    return
  details = {name: found[name] for name in ('device', *KEPT)} | {'scan': case.scan}
  yield row(figure, found['step_ms'], 'ms', **details)
  yield from ratios(run, case, found)


def ratios(run: Run, case: Case, found: dict[str, Any]) -> Iterator[Row]:
  """The case's time beside LoRA's of the options' rank, where that is recorded."""
  for other in ('peft', 'lora'):
    beside = dataclasses.replace(case, method=other, rank=run.options.rank)
    like = {'figure': beside.name, 'device': found['device'], 'scan': case.scan}
    known = matching(run.results.rows(), like)
    if case.method != other and known:
      yield row(
        f'{case.name}: time beside {other} r={beside.rank}',
        found['step_ms'] / known[-1]['value'],
        '',
        device=found['device'],
        other_device=known[-1]['device'],
        scan=case.scan,
      )


def draw(run: Run) -> None:
  """How rate and memory grow with the size of a step; nothing without such rows."""
  rows = [one for one in run.results.rows() if one['figure'].endswith(_RATE)]
  if run.options.sweep != 'sizes' or not rows:
    return
  from experiments import figures  # Not where a card is measured.

  fig, axes = figures.panels(len(_LABELS))
  for axis, name in zip(axes, _LABELS, strict=True):
    memory = axis.twinx()
    for method, style in (('split', '-'), ('replicate', '--')):
      curve = swept(rows, method, name)
      if len(curve) > 1:
        values = [one[name] for one in curve]
        rate = [one['value'] for one in curve]
        axis.plot(values, rate, style, marker='o', label=method)
        memory.plot(values, [one['peak_gib'] for one in curve], style, color='grey')
    axis.set_xscale('log', base=2)
    axis.set_xlabel(_LABELS[name])
    axis.set_ylim(bottom=0)
    memory.set_ylim(bottom=0)
  axes[0].set_ylabel('tokens a second')
  memory.set_ylabel('peak of memory, GiB (grey)')
  if axes[-1].get_legend_handles_labels()[0]:
    axes[-1].legend()
  figures.save(fig, run.folder / f'{run.name}.png')


def swept(rows: list[Row], method: str, name: str) -> list[Row]:
  """The newest rows of a method that differ from the centre in one field, by it."""
  same = {k: v for k, v in (_CENTRE | {'method': method}).items() if k != name}
  newest = {one[name]: one for one in matching(rows, same)}
  return [newest[value] for value in sorted(newest)]


EXPERIMENT = Experiment(
  'speed.steps', Options(), measure, cases, key, draw=draw, own_process=True, env=env
)

if __name__ == '__main__':
  main(EXPERIMENT)
