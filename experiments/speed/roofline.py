"""Where a step's time would go on an H200, predicted from its compiled program.

  python -m experiments.speed.roofline --plugin=FOLDER

Nothing is measured here and no card is needed. XLA compiles the step for an H200 from
shapes alone (`elsewhere.py` says what FOLDER holds); the optimised program names every
kernel, with its operations and bytes (`kernels.py`). A kernel is given the longest of

  operations of products   / the peak of their number format
  other operations         / the rate of the card's float32 units
  bytes read and written   / the bandwidth of its memory
  the time from one small kernel to the next

and a step their sum, as if every kernel reached one of the card's limits and none ran
beside another. What was measured on a card is longer by what kernels fall short of
these limits and by what the host takes to launch them.
"""

import collections
import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import Any

from experiments import tables, timing
from experiments.harness import HERE, Experiment, Run, main
from experiments.results import Results, Row, matching, row
from experiments.speed import elsewhere
from experiments.speed.case import CARD_SIZES, Case
from experiments.speed.groups import GROUPS, group_of
from experiments.speed.kernels import Kernel, frames, kernels

# Dense products a second by the dtype of their operands, and the bandwidth of memory:
# NVIDIA H200 data sheet (SXM). Products of float32 take TF32, as JAX's do by default.
PRODUCTS = {'bf16': 989e12, 'f16': 989e12, 'f32': 494e12}
OTHER_PRODUCTS = 67e12
BANDWIDTH = 4.8e12
# Additions in float32 a second: 132 processors of 128 units at 1.98 GHz, half of the 67
# TFLOP/s of the data sheet, which counts a fused multiplication and addition twice.
UNITS = 132 * 128 * 1.98e9
# Seconds from one small kernel to the next: an assumption. In NVIDIA's "Getting Started
# with CUDA Graphs" (developer.nvidia.com/blog/cuda-graphs) one of 2.9 us takes 3.8 us
# with its launch, 3.4 us within a graph.
LAUNCH = 3e-6
LIMITS = ('products', 'units', 'memory', 'launch')
_FIGURE = 'predicted step on an H200'


@dataclasses.dataclass(frozen=True)
class Options:
  """What is compiled, and where the compiler is.

  Attributes:
    plugin: folder of JAX's CUDA plugin, see `elsewhere.py`.
    rank: of LoRA, and adapad's r_max.
    code: tells versions of the code apart; 'before' is the one that is set beside what
      `speed.steps` has timed on a card.
  """

  plugin: str = ''
  rank: int = 4
  code: str = 'now'


def cases(run: Run) -> list[Case]:
  """`split` at every size; `replicate` and LoRA at the first; layers written out."""
  base = [
    Case(
      model=model,
      rows=rows,
      length=length,
      rank=run.options.rank,
      dtype='bfloat16',
      scan=True,
    )
    for model, rows, length in CARD_SIZES
  ]
  change = lambda **fields: dataclasses.replace(base[0], **fields)
  return [
    *base,
    change(method='lora'),
    change(method='replicate'),
    change(scan=False),
  ]


def key(run: Run, case: Case) -> dict[str, Any]:
  """A step is compiled once."""
  step = {'step': case.name, 'scan': case.scan}
  return {'figure': _FIGURE, 'code': run.options.code, **step}


def env(run: Run, case: Case) -> dict[str, str]:
  """No card is looked for."""
  return elsewhere.environment(run.options.plugin)


def seconds(kernel: Kernel) -> dict[str, float]:
  """What a launch would take by each of the card's limits."""
  of = lambda dtype: PRODUCTS.get(dtype, OTHER_PRODUCTS)
  return {
    'products': sum(count / of(dtype) for dtype, count in kernel.flops.items()),
    'units': kernel.work / UNITS,
    'memory': (kernel.read + kernel.written) / BANDWIDTH,
    'launch': LAUNCH,
  }


def measure(run: Run, case: Case) -> Iterator[Row]:
  """Compiles a step and adds its kernels up."""
  where, begun = elsewhere.device(run.options.plugin), time.perf_counter()
  text = elsewhere.compiled(case, where)
  took = time.perf_counter() - begun
  found, calls = kernels(text), frames(text)
  total, limits, groups = added(found, calls)
  about = {'step': case.name, 'scan': case.scan, 'code': run.options.code}
  ms = lambda s: round(1e3 * s, 4)
  yield row(
    _FIGURE,
    ms(total),
    'ms',
    **about,
    kernels=sum(one.times for one in found),
    programs=len(found),
    tflop=sum(one.times * sum(one.flops.values()) for one in found) / 1e12,
    gigabytes=sum(one.times * (one.read + one.written) for one in found) / 1e9,
    limits_ms={name: ms(limits[name]) for name in LIMITS},
    groups=groups,
    dearest=dearest(found, calls),
    compile_s=round(took, 1),
    processor=timing.processor(),
  )


def added(
  found: Iterable[Kernel], calls: dict[int, tuple[str, ...]]
) -> tuple[float, dict[str, float], dict[str, dict[str, float]]]:
  """(seconds of a step, by what limits them, by what the kernels are there for)."""
  limits: dict[str, float] = collections.Counter()
  groups = {
    name: dict.fromkeys(('ms', 'kernels', 'gflop', 'gigabytes', 'launch_ms'), 0.0)
    for name in GROUPS
  }
  for kernel in found:
    by = seconds(kernel)
    limit = max(by, key=by.get)
    limits[limit] += kernel.times * by[limit]
    one = groups[group_of(kernel, calls)]
    one['ms'] += 1e3 * kernel.times * by[limit]
    one['kernels'] += kernel.times
    one['gflop'] += kernel.times * sum(kernel.flops.values()) / 1e9
    one['gigabytes'] += kernel.times * (kernel.read + kernel.written) / 1e9
    one['launch_ms'] += 1e3 * kernel.times * by[limit] * (limit == 'launch')
  rounded = {
    name: {k: round(v, 4) for k, v in one.items()}
    for name, one in groups.items()
    if one['kernels']
  }
  return sum(limits.values()), limits, rounded


def dearest(
  found: Iterable[Kernel], calls: dict[int, tuple[str, ...]], top: int = 12
) -> list[list[Any]]:
  """The kernels that take longest: [name, group, launches, us each, limit]."""
  cost = lambda one: one.times * max(seconds(one).values())
  lines = []
  for one in sorted(found, key=cost, reverse=True)[:top]:
    by = seconds(one)
    limit = max(by, key=by.get)
    us = round(1e6 * by[limit], 2)
    lines.append([one.name, group_of(one, calls), one.times, us, limit])
  return lines


def table(run: Run) -> str:
  """A line a step, beside what a card took; then the first's groups."""
  rows = matching(run.results.rows(), {'figure': _FIGURE})
  lines = []
  for one in rows:
    name = one['step'] + ('' if one['scan'] else ', unrolled')
    limits = [f'{one["limits_ms"][limit]:.2f}' for limit in LIMITS]
    counts = [f'{one["kernels"]:,}', f'{one["gigabytes"]:.1f}']
    took = measured_ms(one)
    beside = [f'{took:.1f}', f'{100 * one["value"] / took:.0f} %'] if took else ['', '']
    lines.append([one['code'], name, *counts, *limits, f'{one["value"]:.2f}', *beside])
  head = ['code', 'step', 'kernels', 'GB', *LIMITS, 'predicted ms', 'measured ms']
  parts = [tables.markdown([*head, 'explained'], lines)]
  parts += [_groups(one) for one in rows[:1]]
  return '\n\n'.join(parts)


def measured_ms(one: Row) -> float | None:
  """What the step of a prediction took on an H200; None where that is not known."""
  steps = Results(HERE / 'speed/results/steps.jsonl').rows()
  like = {'figure': one['step'], 'device': 'NVIDIA H200', 'scan': one['scan']}
  took = matching(steps, like)
  return took[-1]['value'] if took and one['code'] == 'before' else None


def _groups(one: Row) -> str:
  """A line a group of a step, the dearest first."""
  by_cost = sorted(one['groups'].items(), key=lambda pair: -pair[1]['ms'])
  lines = [
    [
      name,
      f'{found["kernels"]:,.0f}',
      f'{found["gflop"]:,.1f}',
      f'{found["gigabytes"]:.2f}',
      f'{found["ms"]:.2f}',
      f'{found["launch_ms"]:.2f}',
    ]
    for name, found in by_cost
  ]
  head = ['what', 'kernels', 'GFLOP', 'GB', 'predicted ms', 'of it at the launch limit']
  return tables.markdown(head, lines)


EXPERIMENT = Experiment(
  'speed.roofline',
  Options(),
  measure,
  cases,
  key,
  table,
  needs=('plugin',),
  own_process=True,
  env=env,
)

if __name__ == '__main__':
  main(EXPERIMENT)
