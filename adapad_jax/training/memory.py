"""What a run will need of a device's memory, worked out before weights are read.

The compiler knows the temporaries of a program as soon as it has compiled it, and that
takes shapes alone. What else lies on a device is added up: weights, components and
optimiser, batches. Where the device is the CPU, the process's own memory is what runs
out, and there the compiled programs lie too.
"""

import dataclasses
import math
import pathlib
import resource
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from adapad_jax.adapters import split_model
from adapad_jax.freed_memory import trim
from adapad_jax.models.split import dotted
from adapad_jax.sharding import laid
from adapad_jax.training.batches import padded, trimmed
from adapad_jax.training.evaluate import SPREAD, make_evaluator
from adapad_jax.training.plan import Plan
from adapad_jax.training.session import spec_of


@dataclasses.dataclass(frozen=True)
class Memory:
  """Bytes on one device.

  Attributes:
    weights: of the frozen model.
    state: components, optimiser, head.
    batches: the one that is computed and the next.
    round: what a round needs while it runs.
    evaluation: what an evaluation needs while it runs, its batch and update included.
    update: the update as evaluation uses it.
    programs: on the CPU, what the process has grown by while compiling.
  """

  weights: int
  state: int
  batches: int
  round: int
  evaluation: int
  update: int
  programs: int = 0

  @property
  def peak(self) -> int:
    """The most at any time: in a round, in an evaluation, or in the save after it.

    Not counted: what the allocator rounds up or leaves in pieces, compiled programs on
    an accelerator, and on the host the data set and Python itself.
    """
    saving = self.update + self.state
    passing = max(self.batches + self.round, self.evaluation, saving)
    return self.weights + self.state + self.programs + passing

  def __str__(self) -> str:
    parts = ', '.join(
      f'{field.name} {_mib(getattr(self, field.name))}'
      for field in dataclasses.fields(self)
    )
    return f'memory of a device: about {_mib(self.peak)} MiB at the peak ({parts})'


def _mib(size: int) -> str:
  return f'{size / 2**20:,.0f}'


@dataclasses.dataclass(frozen=True)
class Outlines:
  """The arguments of a run's programs as shapes, dtypes and shardings."""

  params: Any
  state: Any
  batch: Any
  deployed: Any
  rows: Any


def estimate(plan: Plan) -> Memory:
  """Compiles the round and the evaluation for the longest batch and adds up.

  A run that follows finds both in the compilation cache.
  """
  trim()
  before = resident_bytes()
  with jax.set_mesh(plan.mesh):
    found = added_up(plan, _temporary)
  if jax.default_backend() != 'cpu':
    return found
  trim()
  grown = max(resident_bytes() - before, 0)
  return dataclasses.replace(found, programs=grown // jax.local_device_count())


def added_up(plan: Plan, held: Callable[[jax.stages.Traced], int]) -> Memory:
  """What a run needs on the current mesh, for the longest batches.

  Args:
    plan: the run.
    held: bytes that a program needs while it runs, beside arguments and donated
      results.
  """
  evaluator = make_evaluator(
    plan.task,
    plan.attachment,
    plan.modules,
    plan.mesh,
    plan.config.train.eval_batch,
  )
  of = outlines(plan, evaluator.program.rows)
  once = plan.method.make_round(plan.mesh).trace(of.state, of.params, of.batch)
  prefix = laid(np.int32(0), jax.P(), plan.mesh)
  predict = evaluator.program.predict
  scored = held(predict.trace(of.params, of.deployed, prefix, of.rows))
  scored += on_a_device(of.rows)
  if evaluator.generator is not None:
    rows = _prompts(plan, evaluator.generator.rows)
    answer = evaluator.generator.predict
    answered = held(answer.trace(of.params, of.deployed, prefix, rows))
    scored = max(scored, answered + on_a_device(rows))
  update = on_a_device(of.deployed)
  return Memory(
    weights=on_a_device(of.params),
    state=on_a_device(of.state),
    batches=2 * on_a_device(of.batch),
    round=held(once),
    evaluation=scored + update,
    update=update,
  )


def _prompts(plan: Plan, rows: int) -> Any:
  """The longest prompts of the validation data that are answered at once."""
  split = plan.task.generated.prompts['validation']
  columns = padded(trimmed(split.columns), 0, rows)
  return laid(columns, jax.tree.map(lambda _: SPREAD, columns), plan.mesh)


def outlines(plan: Plan, rows: int) -> Outlines:
  """Of a run on the current mesh, for the longest batches; `rows` are evaluated."""
  mesh, method, train = plan.mesh, plan.method, plan.config.train
  params, head = jax.eval_shape(
    lambda model: split_model(model, plan.outlined.head_modules)[1:],
    plan.outlined.model,
  )
  state = method.outline(head, mesh)
  batch = {
    name: np.empty((method.local_steps, train.batch, *x.shape[1:]), x.dtype)
    for name, x in trimmed(plan.task.splits['train'].columns).items()
  }
  alike = lambda tree, spec: laid(tree, jax.tree.map(lambda _: spec, tree), mesh)
  return Outlines(
    params=_laid_params(plan, params),
    state=state,
    batch=alike(batch, method.rows(mesh).spec),
    deployed=alike(jax.eval_shape(method.deploy, state), jax.P()),
    rows=alike(padded(_longest(plan), 0, rows), SPREAD),
  )


def _laid_params(plan: Plan, params: Any) -> Any:
  divided = dict(plan.attachment.divided)

  def one(keys: tuple, param: Any) -> Any:
    lies = lambda x: laid(x, spec_of(divided, dotted(keys), x.ndim), plan.mesh)
    return jax.tree.map(lies, param)

  flat = nnx.to_flat_state(params)
  return nnx.from_flat_state([(keys, one(keys, param)) for keys, param in flat])


def _longest(plan: Plan) -> dict[str, np.ndarray]:
  """The columns of the validation split whose rows are longest."""
  splits = [s for name, s in plan.task.splits.items() if name.startswith('validation')]
  columns = [trimmed(split.columns) for split in splits]
  return max(columns, key=lambda one: one['mask_BL'].shape[1])


def _temporary(traced: jax.stages.Traced) -> int:
  """Bytes that a program needs while it runs, as the compiler says."""
  found = traced.lower().compile().memory_analysis()
  made = found.output_size_in_bytes - found.alias_size_in_bytes
  return found.temp_size_in_bytes + made


def resident_bytes() -> int:
  """Bytes of this process that are in memory now; 0 where the system does not tell."""
  told = pathlib.Path('/proc/self/statm')
  return (
    int(told.read_text().split()[1]) * resource.getpagesize() if told.is_file() else 0
  )


def on_a_device(tree: Any) -> int:
  """Bytes that one device holds of a tree of outlines or arrays."""
  one = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
  return sum(map(one, jax.tree.leaves(tree)))
