"""All that one GPU is to be asked about training steps, the most telling first.

  python -m experiments.speed.card --limit=3000 --timeout=240

A case is one step in a process of its own, whose rows are kept as they come, so that
the command can be stopped and given again. It needs `jax[cuda]`, flax, optax, and for
PEFT's steps torch, transformers and peft. Every case gives its time with the share of
the card's peak and the seconds of its first step, and ours then a second row: which
kernels took that time, from a trace. `--tiny` takes every case with models of next to
no size, on whatever device there is.
"""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from adapad_jax.compilation import keep_compiled
from experiments import tables, timing
from experiments.harness import Experiment, Run, main
from experiments.results import Row, matching, row
from experiments.speed import trace
from experiments.speed.case import CARD_SIZES, KEPT, Case, made, timed_step

# What XLA launches as CUDA graphs: what it does by itself, nothing, or loops as well.
GRAPHS = {
  'default': '',
  'none': '--xla_gpu_enable_command_buffer=',
  'loops': '--xla_gpu_enable_command_buffer=+WHILE,+CONDITIONAL',
}
_TINY = (('DeBERTa-v3-tiny', 4, 16), ('Qwen3-tiny', 4, 16))
_TRACED = 'kernels of a '


@dataclasses.dataclass(frozen=True)
class Options:
  """What is timed.

  Attributes:
    rank: of LoRA, and adapad's r_max.
    seconds: to time a case for, at least.
    tiny: models of next to no size, and any device.
  """

  rank: int = 4
  seconds: float = 3.0
  tiny: bool = False


@dataclasses.dataclass(frozen=True)
class Measured:
  """A step, and how XLA launches it.

  Attributes:
    step: what is timed.
    graphs: of `GRAPHS`; not for peft.
  """

  step: Case
  graphs: str = 'default'

  @property
  def name(self) -> str:
    """The case in words."""
    if self.step.method == 'peft':
      return self.step.name
    fused = ', fused attention' if self.step.fused else ''
    graphs = '' if self.graphs == 'default' else f', CUDA graphs: {self.graphs}'
    layers = 'scanned' if self.step.scan else 'unrolled'
    return f'{self.step.name}, {layers}{fused}{graphs}'


def cases(run: Run) -> list[Measured]:
  """Methods at every size first, then how layers, attention and launches are compiled.

  Raises:
    SystemExit: where JAX sees no card.
  """
  if not run.options.tiny and timing.device() == 'cpu':
    raise SystemExit('no GPU is seen by JAX; --tiny runs every case on the CPU')
  sizes = [_base(run, *size) for size in (_TINY if run.options.tiny else CARD_SIZES)]
  found = [one for base in sizes for one in _methods(base)]
  return found + [one for base in sizes for one in _variants(base)]


def _base(run: Run, model: str, rows: int, length: int) -> Case:
  """A `split` step of a size; decoders have an attention that a kernel can take."""
  options = run.options
  return Case(
    model=model,
    rows=rows,
    length=length,
    rank=options.rank,
    dtype='bfloat16',
    scan=True,
    fused=model.startswith('Qwen3'),
    seconds=options.seconds,
  )


def _methods(base: Case) -> Iterator[Measured]:
  change = lambda **fields: Measured(dataclasses.replace(base, **fields))
  yield change()
  # Those of transformers' models that can take torch's SDPA, which DeBERTa cannot.
  peft = dict(method='peft', scan=False, fused=False)
  yield change(**peft)
  yield change(**peft, compiled=True)
  yield change(method='lora')
  yield change(method='replicate')


def _variants(base: Case) -> Iterator[Measured]:
  for graphs in ('none', 'loops'):
    yield Measured(base, graphs)
  unrolled = dataclasses.replace(base, scan=False)
  yield Measured(unrolled)
  yield Measured(dataclasses.replace(unrolled, method='lora'))
  if base.fused:
    yield Measured(dataclasses.replace(base, fused=False))


def key(run: Run, case: Measured) -> dict[str, Any]:
  """A case is timed once on a kind of device."""
  return {'figure': case.name, 'device': timing.device()}


def env(run: Run, case: Measured) -> dict[str, str]:
  """Flags of XLA, before it starts; torch gets all of a card's memory."""
  if case.step.method == 'peft':
    return {'JAX_PLATFORMS': 'cpu'}
  given = os.environ.get('XLA_FLAGS', '')
  return {'XLA_FLAGS': f'{given} {GRAPHS[case.graphs]}'.strip()}


def measure(run: Run, case: Measured) -> Iterator[Row]:
  """The time of a step; for ours, then what a trace tells of it."""
  keep_compiled()
  step, shapes = made(case.step)
  found = timed_step(case.step, step, shapes)
  about = {'device': found['device'], **dataclasses.asdict(case.step)}
  about |= {'graphs': case.graphs}
  kept = {name: found[name] for name in KEPT}
  yield row(case.name, found['step_ms'], 'ms', **kept, **about)
  if case.step.method != 'peft':
    told = trace.summary(step)
    figure = f'{_TRACED}{case.name}'
    yield row(figure, told.pop('busy_ms'), 'ms', **told, **about)


def table(run: Run) -> str:
  """A line a case with its share of the peak; then the dearest kernels."""
  rows = run.results.rows()
  traced = [one for one in rows if one['figure'].startswith(_TRACED)]
  timed = [one for one in rows if one not in traced]
  lines = [_line(one, traced) for one in timed]
  head = 'step, device, ms, share of peak, GiB, first step s, busy ms, kernels'
  first = tables.markdown(head.split(', '), lines)
  dearest = [
    [one['figure'].removeprefix(_TRACED), name, f'{ms:.3f}', f'{number:g}']
    for one in traced
    for name, ms, number in one['top']
  ]
  return f'{first}\n\n{tables.markdown(["step", "kernel", "ms", "times"], dearest)}'


def _line(one: Row, traced: list[Row]) -> list[str]:
  """A case: its time, and what the last trace of it says."""
  of = {'figure': f'{_TRACED}{one["figure"]}', 'device': one['device']}
  share, found = one['model_flop_utilisation'], matching(traced, of)
  busy = (
    [f'{found[-1]["value"]:.2f}', f'{found[-1]["kernels"]:g}'] if found else ['', '']
  )
  return [
    one['figure'],
    one['device'],
    f'{one["value"]:.1f}',
    '' if share is None else f'{100 * share:.1f} %',
    f'{one["peak_gib"]:.1f}',
    f'{one["first_step_s"]:.1f}',
    *busy,
  ]


EXPERIMENT = Experiment(
  'speed.card',
  Options(),
  measure,
  cases,
  key,
  table,
  own_process=True,
  env=env,
  kept_as_they_come=True,
)

if __name__ == '__main__':
  main(EXPERIMENT)
