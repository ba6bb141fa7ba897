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
  # Every part of a batch is spread over the devices like a batch.
  mesh = choose_mesh(config.mesh, config.train.batch // config.train.accumulate)
  tokenizer = models.load_tokenizer(config.model.source)
  longest = models.max_length(config.model.source)
  task = load_task(config.data, tokenizer, longest)
  outlined = _outline(config, task)
  shapes = choose(
    outlined.model, config.adapter.choice(), outlined.targets, outlined.head_modules
  )
  attachment = Attachment.of(outlined.model)
  steps = config.train.total_steps(len(task.splits['train']))
  problem = Problem(
    shapes=shapes,
    params=nnx.state(outlined.model),
    loss=functools.partial(task_loss, task, attachment),
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


def choose_mesh(config: MeshConfig, batch: int) -> jax.sharding.Mesh:
  """The mesh of a config; what it leaves open, the devices fill along `data`.

  Raises:
    ValueError: if it does not fit the devices, or the data axis not the batch.
  """
  worker = config.worker or 1
  free = max(jax.device_count() // worker, 1)
  fits = max(n for n in range(1, free + 1) if batch % n == 0)
  data = config.data or fits
  if batch % data:
    choices = [n for n in range(1, free + 1) if batch % n == 0]
    raise ValueError(
      f'mesh.data={data} does not divide train.batch / train.accumulate = {batch};'
      f' choose from {choices}'
    )
  return sharding.make_mesh(worker, data)


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
    weights=not model.random_weights,
  )
