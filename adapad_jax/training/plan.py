"""What a run will do, worked out and checked before anything expensive starts."""

import dataclasses
import functools
from typing import Any

import jax
from flax import nnx

from adapad_jax import models, sharding
from adapad_jax.adapters import Attachment, choose
from adapad_jax.adapters.locate import linears
from adapad_jax.methods import METHODS, Method, Problem
from adapad_jax.models import Pretrained
from adapad_jax.tasks import Task, load_task
from adapad_jax.training.config import FinetuneConfig, MeshConfig


@dataclasses.dataclass(frozen=True)
class Plan:
  """A run that has been checked.

  Attributes:
    config: as given.
    task: its data, labels checked.
    outlined: the model without its weights.
    attachment: puts the model together.
    shapes: (in, out) features of the adapted modules.
    method: bound to all of this.
    mesh: the devices.
  """

  config: FinetuneConfig
  task: Task
  outlined: Pretrained
  attachment: Attachment
  shapes: dict[str, tuple[int, int]]
  method: Method
  mesh: jax.sharding.Mesh

  @property
  def modules(self) -> tuple[str, ...]:
    """Names of the adapted modules, the order of every M axis."""
    return tuple(self.shapes)

  def head_parameters(self) -> int:
    """Trained parameters outside the adapters."""
    heads = self.outlined.head_modules
    return sum(
      sum(leaf.size for leaf in jax.tree.leaves(linear))
      for name, linear in linears(self.outlined.model).items()
      if any(name == head or name.startswith(f'{head}.') for head in heads)
    )


def make_plan(config: FinetuneConfig) -> Plan:
  """Reads the data and the model's outline and binds the method to them.

  Raises:
    ValueError: for whatever cannot work, before weights are read.
  """
  tokenizer = models.load_tokenizer(config.model.source)
  longest = models.max_length(config.model.source)
  task = load_task(config.data, tokenizer, longest)
  outlined = _outline(config, task)
  params = nnx.state(outlined.model)
  # Every part of a batch is spread over the devices like a batch.
  rows = config.train.batch // config.train.accumulate
  mesh = choose_mesh(config.mesh, rows, nbytes(params))
  shapes = choose(
    outlined.model, config.adapter.choice(), outlined.targets, outlined.head_modules
  )
  family = models.family_of(outlined.family)
  divided = models.division(family, params, mesh.shape[sharding.MODEL])
  if divided and config.method == 'full':
    raise ValueError(
      'mesh.model divides weights that stay frozen; method full trains them all, so it'
      ' needs mesh.model=1'
    )
  attachment = Attachment.of(outlined.model, divided)
  loss = functools.partial(task_loss, task, attachment)
  steps = config.train.total_steps(len(task.splits['train']))
  problem = Problem(
    shapes=shapes,
    params=params,
    loss=models.forgetful(loss) if divided else loss,
    optimizer=config.optimizer.resolve(steps),
    head_optimizer=config.head_optimizer.resolve(steps),
    steps=steps,
    batch=config.train.batch,
    scale=config.adapter.scale,
    init=config.adapter.init,
    seed=config.seed,
    accumulate=config.train.accumulate,
  )
  method = METHODS[config.method][1](config.settings, problem)
  method.rows(mesh)  # Refuses rows that the mesh does not divide.
  return Plan(config, task, outlined, attachment, shapes, method, mesh)


def task_loss(
  task: Task,
  attachment: Attachment,
  params: Any,
  head: Any,
  deltas: Any,
  head_weight_B: Any,
  batch: Any,
  keys_B: Any,
) -> tuple[jax.Array, jax.Array]:
  """The task's loss of the model with these updates; see `worker.LossFn`."""
  model = attachment(params, deltas, head, head_weight_B)
  return task.loss(model, batch, keys_B)


def nbytes(params: Any) -> int:
  """Bytes of a tree of arrays, which may be abstract."""
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))


def choose_mesh(config: MeshConfig, batch: int, weights: int = 0) -> jax.sharding.Mesh:
  """The mesh of a config; what it leaves open, the devices fill along `data`.

  Args:
    config: what is wanted.
    batch: rows that are spread at once.
    weights: bytes of the backbone, which `model` divides if one device cannot hold
      them.

  Raises:
    ValueError: if it does not fit the devices, or the rows cannot be spread evenly.
  """
  worker = config.worker or 1
  free = max(jax.device_count() // worker, 1)
  model = config.model or sharding.devices_for(weights, free)
  if batch % model:
    raise ValueError(
      f'mesh.model={model} does not divide train.batch / train.accumulate = {batch}:'
      ' its devices share the rows too'
    )
  fits = [n for n in range(1, max(free // model, 1) + 1) if batch // model % n == 0]
  data = config.data or max(fits)
  if batch // model % data:
    raise ValueError(
      f'mesh.data={data} does not divide train.batch / train.accumulate / mesh.model ='
      f' {batch // model}; choose from {fits}'
    )
  return sharding.make_mesh(worker, data, model)


def _outline(config: FinetuneConfig, task: Task) -> Pretrained:
  model = config.model
  head = dataclasses.replace(task.head, dropout=model.head_dropout)
  return models.outline(
    model.source,
    head,
    dtype=model.dtype,
    hidden_dropout=model.hidden_dropout,
    attention_dropout=model.attention_dropout,
    scan=model.scan,
    remat=model.remat,
    fused=model.fused,
    weights=not model.random_weights,
  )
