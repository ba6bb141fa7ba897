"""What devices say to each other in a round, and how long that takes beside the work.

Everything is read off programs that were lowered for abstract arrays: no weights, no
compilation, and as many virtual devices as wanted. Inside a round every collective is
written out by hand, so the lowered program holds them all with a device's own shapes.
"""

import collections
import dataclasses
import math
import pathlib
import re

import jax

from adapad_jax.adapters import split_model
from adapad_jax.deflation.round import make_round
from adapad_jax.methods import adapad
from adapad_jax.models import Head
from adapad_jax.sharding import laid, make_mesh
from experiments import training_steps as steps
from experiments.model_flops import PEAK_FLOPS
from experiments.record import record, recorded

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
    """(work, talk) on so many H200 that do one after the other.

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
  settings = adapad.AdaPaDSettings(r_max=shape.workers, feeding=shape.feeding)
  mesh = make_mesh(shape.devices, 1)
  alike = lambda tree, spec: laid(tree, jax.tree.map(lambda _: spec, tree), mesh)
  batch = steps.draw_batch(shape.model, shape.rows, shape.length)
  batch = {name: x[None] for name, x in batch.items()}
  with jax.set_mesh(mesh):
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


def run(folder: pathlib.Path, shapes: list[Shape]) -> None:
  """Records the cost and the predicted share of communication of what is not known."""
  known = [row.items() for row in recorded(folder) if 'devices' in row]
  for shape in shapes:
    if not any(dataclasses.asdict(shape).items() <= row for row in known):
      _record(folder, shape, cost(lowered(shape)))


def _record(folder: pathlib.Path, shape: Shape, found: Cost) -> None:
  work, talk = found.seconds(shape.devices)
  record(
    folder,
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
