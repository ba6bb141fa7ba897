"""What a run will do, worked out and checked before anything expensive starts."""

import dataclasses
import functools
from collections.abc import Callable
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
  if config.train.packing:
    task = task.packed()
  outlined = _outline(config, task)
  params = nnx.state(outlined.model)
  # Every part of a batch is spread over the devices like a batch.
  rows = config.train.batch // config.train.accumulate
  parts = devices_of_model(config.mesh, rows, nbytes(params))
  shapes = choose(
    outlined.model, config.adapter.choice(), outlined.targets, outlined.head_modules
  )
  family = models.family_of(outlined.family)
  divided = models.division(family, params, parts)
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
  # The method refuses a mesh that does not divide its rows.
  mesh = choose_mesh(config.mesh, rows, parts, method.rows)
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


def devices_of_model(config: MeshConfig, batch: int, weights: int) -> int:
  """Devices along `model`: as wanted, else as few as hold the weights.

  Args:
    config: what is wanted.
    batch: rows that are spread at once.
    weights: bytes of the backbone.

  Raises:
    ValueError: if the rows cannot be spread evenly, or the weights fit no devices.
  """
  free = _free(config)
  model = config.model or sharding.devices_for(weights, free, batch)
  if batch % model:
    raise ValueError(
      f'mesh.model={model} does not divide train.batch / train.accumulate = {batch}:'
      ' its devices share the rows too'
    )
  return model


def choose_mesh(
  config: MeshConfig,
  batch: int,
  model: int = 1,
  check: Callable[[jax.sharding.Mesh], Any] = lambda mesh: None,
) -> jax.sharding.Mesh:
  """The mesh of a config; what it leaves open, the devices fill along `data`.

  Args:
    config: what is wanted.
    batch: rows that are spread at once.
    model: devices along `model`.
    check: raises ValueError for a mesh that does not do; a smaller one is tried then.

  Raises:
    ValueError: if it does not fit the devices, or the rows cannot be spread evenly.
  """
  most = max(_free(config) // model, 1)
  fits = [n for n in range(most, 0, -1) if batch // model % n == 0]
  if batch // model % (config.data or 1):
    raise ValueError(
      f'mesh.data={config.data} does not divide train.batch / train.accumulate /'
      f' mesh.model = {batch // model}; choose from {fits[::-1]}'
    )
  reasons = []
  for data in (config.data,) if config.data else fits:
    try:
      mesh = sharding.make_mesh(config.worker or 1, data, model)
      check(mesh)
      return mesh
    except ValueError as error:
      reasons.append(error)
  raise reasons[0]


def _free(config: MeshConfig) -> int:
  """Devices for each place on the worker axis."""
  return max(jax.device_count() // (config.worker or 1), 1)


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
