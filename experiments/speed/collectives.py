"""Collectives of a round: their bytes, and how long they take beside the work.

Everything is read off programs that were lowered for abstract arrays: no weights, no
compilation, and as many virtual devices as wanted. Inside a round every collective is
written out by hand, so the lowered program holds them all with a device's own shapes.

python -m experiments.speed.collectives
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator
from unittest import mock

import jax

from adapad_jax.adapters import split_model
from adapad_jax.deflation.round import make_round
from adapad_jax.methods import adapad
from adapad_jax.models import Head
from adapad_jax.sharding import laid, make_mesh
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, row
from experiments.speed import training_steps as steps
from experiments.speed.model_flops import PEAK_FLOPS

BYTES = {'f32': 4, 's32': 4, 'u32': 4, 'bf16': 2, 'pred': 1}
# Bytes a second that a device sends, one way. NVLink: 900 GB/s both ways (NVIDIA H200
# data sheet); network: one 400 Gb/s port for each GPU (NVIDIA DGX H200 data sheet).
NVLINK, NETWORK = 450e9, 50e9
# Devices that NVLink joins in such a machine.
NODE = 8
# Share of the peak that the work is taken to reach: an assumption, not a measurement.
UTILISATION = 0.4
_CALL = re.compile(
  r'= (\w+)\[([\d,]*)\]\S* (all-gather|all-reduce|reduce-scatter|all-to-all)\('
)


@dataclasses.dataclass(frozen=True)
class Options:
  """The rounds to lower: every model, both feedings, every number of devices."""

  models: tuple[str, ...] = ('DeBERTa-v3-base', 'Qwen3-0.6B')
  workers: int = 64
  rows: int = 64
  length: int = 128
  devices: tuple[int, ...] = (1, 4, 8, 64)


@dataclasses.dataclass(frozen=True)
class Shape:
  """A round to lower: model, feeding, workers, batch and devices."""

  model: str
  feeding: str
  workers: int
  rows: int
  length: int
  devices: int


@dataclasses.dataclass(frozen=True)
class Cost:
  """A device's part of a round.

  Attributes:
    flops: floating-point operations.
    gathered, reduced: bytes of the results of all-gathers and of all-reduces.
    counts: collectives by kind.
  """

  flops: float
  gathered: int
  reduced: int
  counts: dict[str, int]

  def seconds(self, devices: int) -> tuple[float, float]:
    """(work, communication) on so many H200 that do one after the other.

    Rings: a device passes on (n - 1) / n of what is gathered, and twice that of what
    is reduced, over the slowest link there is.
    """
    link = NVLINK if devices <= NODE else NETWORK
    passed = (devices - 1) / devices * (self.gathered + 2 * self.reduced)
    return self.flops / (PEAK_FLOPS['H200'] * UTILISATION), passed / link


def lowered(shape: Shape) -> jax.stages.Lowered:
  """The round on a worker axis of all devices, while every worker is live."""
  is_lm = shape.model.startswith('Qwen3')
  head = Head('lm') if is_lm else steps.CLASSIFIER
  model = steps.our_outline(shape.model, head, dtype='bfloat16')
  params, head = jax.eval_shape(
    lambda m: split_model(m, model.head_modules)[1:], model.model
  )
  problem = steps.our_problem(model, shape.rows)
  settings = adapad.AdaPaDSettings(
    **steps.DEFLATING, r_max=shape.workers, feeding=shape.feeding
  )
  mesh = make_mesh(shape.devices, 1)
  alike = lambda tree, spec: laid(tree, jax.tree.map(lambda _: spec, tree), mesh)
  batch = steps.draw_batch(shape.model, shape.rows, shape.length)
  batch = {name: x[None] for name, x in batch.items()}
  # Cards compute the rows of all their workers at once, and so are they counted.
  at_once = mock.patch(
    'adapad_jax.deflation.round.computes_in_turn', lambda mesh: False
  )
  with jax.set_mesh(mesh), at_once:
    method = adapad.build(settings, problem)
    inputs = alike(batch, method.rows(mesh).spec)
    state = method.outline(head, mesh)
    slots = method.deflation.feeding.capacity(shape.devices, 1, live=shape.workers)
    once = make_round(method.deflation, mesh, slots)
    return once.lower(state, alike(params, jax.P()), inputs)


def payloads(hlo: str) -> list[tuple[str, int]]:
  """(kind, bytes of the result) of every collective in the text of a program."""
  size = lambda kind, shape: (
    BYTES[kind] * math.prod(int(n) for n in shape.split(',') if n)
  )
  return [(op, size(kind, shape)) for kind, shape, op in _CALL.findall(hlo)]


def cost(program: jax.stages.Lowered) -> Cost:
  """Counts operations and bytes of a lowered round of pure deflation."""
  found = payloads(program.as_text('hlo'))
  total = collections.Counter()
  for kind, size in found:
    total[kind] += size
  return Cost(
    flops=program.cost_analysis()['flops'],
    gathered=total['all-gather'],
    reduced=total['all-reduce'],
    counts=dict(collections.Counter(kind for kind, _ in found)),
  )


def cases(run: Run) -> list[Shape]:
  """All rounds of the options."""
  options = run.options
  return [
    Shape(model, feeding, options.workers, options.rows, options.length, devices)
    for model in options.models
    for feeding in ('split', 'replicate')
    for devices in options.devices
  ]


def measure(run: Run, shape: Shape) -> Iterator[Row]:
  """The cost of a device, and the share of communication that follows from it."""
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', shape.devices)
  found = cost(lowered(shape))
  work, talk = found.seconds(shape.devices)
  yield row(
    'predicted share of communication in a round on H200',
    talk / (work + talk),
    '',
    **dataclasses.asdict(shape),
    tflop_of_a_device=found.flops / 1e12,
    megabytes_gathered=found.gathered / 1e6,
    megabytes_reduced=found.reduced / 1e6,
    collectives=found.counts,
    work_ms=1e3 * work,
    talk_ms=1e3 * talk,
    assumed_utilisation=UTILISATION,
    link_bytes_per_second=NVLINK if shape.devices <= NODE else NETWORK,
  )


EXPERIMENT = Experiment(
  'speed.collectives', Options(), measure, cases, key_of_fields, own_process=True
)

if __name__ == '__main__':
  main(EXPERIMENT)
