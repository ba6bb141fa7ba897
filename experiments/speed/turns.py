"""Training steps by turns: ratios on which the rest of the machine weighs evenly.

  python -m experiments.speed.turns --models=MiniLM --rows=16 --length=32 \\
      --dtype=float32
  python -m experiments.speed.turns --sides=devices --models=MiniLM --rows=32 \\
      --length=64 --dtype=float32 --rank=2 --repeats=3
  python -m experiments.speed.turns --sides=feedings --models=MiniLM --rows=16 \\
      --length=64 --dtype=float32 --repeats=3

`methods` compares adapad with LoRA, ours and PEFT's, in one process. In processes of
their own `feedings` compares `replicate` with `split` at every rank, `devices` two
devices on two cores with one on one core, and `memory` the C library told to keep freed
memory with its own way.

XLA allocates a step's temporaries and frees them again. glibc unmaps blocks of 32 MiB
and more at once, so the next step's pages have to be cleared anew by the kernel.
"""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np

from adapad_jax import freed_memory
from adapad_jax.compilation import keep_compiled
from experiments import processes, timing
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row
from experiments.speed.case import Case, Sizes, made, timed

# (feeding, mesh axis with two devices)
SPREADS = (('replicate', 'worker'), ('split', 'worker'), ('split', 'data'))
# The C library as commands start it, and as it is by itself.
KEPT, FREED = {'GLIBC_TUNABLES': freed_memory.TUNABLES}, {'GLIBC_TUNABLES': ''}


@dataclasses.dataclass(frozen=True)
class Options(Sizes):
  """What is compared.

  Attributes:
    sides: the kind of comparison.
    ranks: workers of `methods` and `feedings`.
    repeats: turns of either side.
    group: steps of a turn of `methods`; on a GPU, 10.
  """

  sides: Literal['methods', 'feedings', 'devices', 'memory'] = 'methods'
  ranks: tuple[int, ...] = (2, 4, 8)
  repeats: int = 5
  group: int = 1


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two steps, and what their ratio is called."""

  name: str
  one: Case
  other: Case


def cases(run: Run) -> list[Pair]:
  """The pairs of the kind that is asked for."""
  kinds = dict(methods=methods, feedings=feedings, devices=devices, memory=memory)
  return list(kinds[run.options.sides](run.options))


def methods(options: Options) -> Iterator[Pair]:
  """Both feedings at every rank beside either LoRA of the options' rank."""
  base = options.base()
  for feeding in ('split', 'replicate'):
    for rank in options.ranks:
      one = dataclasses.replace(base, method=feeding, rank=rank)
      for beside in ('lora', 'peft'):
        other = dataclasses.replace(base, method=beside)
        name = f'{one.name}: time beside {beside} r={other.rank}, by turns'
        yield Pair(name, one, other)


def feedings(options: Options) -> Iterator[Pair]:
  """Every worker on every row beside the rows shared among them."""
  for rank in options.ranks:
    one = dataclasses.replace(options.base(), method='replicate', rank=rank)
    yield Pair(
      f'{one.name}: times split', one, dataclasses.replace(one, method='split')
    )


def devices(options: Options) -> Iterator[Pair]:
  """Every way to spread a step over two devices."""
  for feeding, axis in SPREADS:
    one = dataclasses.replace(options.base(), method=feeding, axis=axis)
    name = f'{one.name}: two devices along {axis} beside one, a core each'
    yield Pair(name, one, dataclasses.replace(one, devices=2))


def memory(options: Options) -> Iterator[Pair]:
  """Short rows and long ones of `split`, and `replicate`."""
  base = options.base()
  for change in ({}, {'length': 4 * base.length}, {'method': 'replicate'}):
    one = dataclasses.replace(base, **change)
    yield Pair(f'{one.name}: time with freed memory kept beside without', one, one)


def key(run: Run, pair: Pair) -> dict[str, Any]:
  """A pair is timed once on a kind of device."""
  return {'figure': pair.name, 'device': timing.device()}


def measure(run: Run, pair: Pair) -> Iterator[Row]:
  """The median ratio of neighbouring turns."""
  kinds = dict(methods=in_one_process, feedings=apart, devices=pinned, memory=kept)
  yield kinds[run.options.sides](run.options, pair)


def in_one_process(options: Options, pair: Pair) -> Row:
  """Half of a card is torch's."""
  env = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
  return processes.call(by_turns, options, pair, env=env)


def by_turns(options: Options, pair: Pair) -> Row:
  keep_compiled()
  one, other = made(pair.one)[0], made(pair.other)[0]
  found = timing.side_by_side(one, other, options.repeats, options.group)
  return row(
    pair.name,
    found['ratio'],
    '',
    device=timing.device_kind(),
    processor=timing.processor(),
    ms=1e3 * found['ours'],
    other_ms=1e3 * found['theirs'],
    least=found['least'],
    most=found['most'],
    repeats=options.repeats,
    group=options.group,
  )


def apart(options: Options, pair: Pair) -> Row:
  """With freed memory kept, as commands are started."""
  turns = [
    [processes.call(timed, case, env=KEPT) for case in (pair.one, pair.other)]
    for _ in range(options.repeats)
  ]
  return ratio_of(pair, turns, '', ('ms', 'other_ms'))


def pinned(options: Options, pair: Pair) -> Row:
  """Either side on cores of its own."""
  turns = [
    [processes.call(pinned_step, case) for case in (pair.one, pair.other)]
    for _ in range(options.repeats)
  ]
  losses = [side['losses'] for side in turns[0]]
  names = 'one_ms', 'two_ms'
  return ratio_of(pair, turns, 'times as fast', names, losses=losses)


def kept(options: Options, pair: Pair) -> Row:
  """With `KEPT` in the environment, and with `FREED`."""
  turns = [
    [processes.call(timed, pair.one, env=env) for env in (KEPT, FREED)]
    for _ in range(options.repeats)
  ]
  peaks = np.median([[side['peak_gib'] for side in turn] for turn in turns], 0)
  more = dict(zip(('kept_peak_gib', 'peak_gib'), peaks, strict=True))
  return ratio_of(pair, turns, '', ('kept_ms', 'ms'), **more, environment=KEPT)


def ratio_of(
  pair: Pair,
  turns: list[list[dict[str, Any]]],
  unit: str,
  names: tuple[str, str],
  **more: Any,
) -> Row:
  """The median ratio, and the milliseconds of either side under its name."""
  ms = np.array([[side['step_ms'] for side in turn] for turn in turns])
  found = timing.spread(ms[:, 0] / ms[:, 1])
  value = found.pop('ratio')
  sides = dict(zip(names, ms.T, strict=True))
  where = {'device': turns[0][0]['device'], 'processor': timing.processor()}
  return row(pair.name, value, unit, **found, **sides, **more, **where)


def pinned_step(case: Case) -> dict[str, Any]:
  """Times a step on as many cores as it has devices; JAX must not have counted them."""
  cores = sorted(os.sched_getaffinity(0))[: case.devices]
  os.sched_setaffinity(0, cores)
  jax.config.update('jax_num_cpu_devices', case.devices)
  return timed(case)


EXPERIMENT = Experiment('speed.turns', Options(), measure, cases, key)

if __name__ == '__main__':
  main(EXPERIMENT)
