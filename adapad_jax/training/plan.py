"""What a run will do, worked out and checked before anything expensive starts."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from adapad_jax import models, sharding
from adapad_jax.adapters import Attachment, adapted_problem, choose
from adapad_jax.adapters.locate import linears
from adapad_jax.methods import DRAWN_OTHERWISE, METHODS, Method
from adapad_jax.models import Head, Pretrained, Source
from adapad_jax.tasks import Task, expected_head, load_task
from adapad_jax.tasks.load import require_read
from adapad_jax.tasks.tokenise import check_vocabulary
from adapad_jax.training.commits import LATEST, Commits, at_commits, recorded
from adapad_jax.training.config import AdapterConfig, FinetuneConfig, MeshConfig
from adapad_jax.training.partition import divided
from adapad_jax.training.record import Record


@dataclasses.dataclass(frozen=True)
class Plan:
  """A run that has been checked.

  Attributes:
    config: as given; what it leaves to the model is settled.
    task: its data, labels checked.
    outlined: the model without its weights.
    attachment: puts the model together.
    shapes: (in, out) features of the adapted modules.
    method: bound to all of this.
    mesh: the devices.
    train_rows: rows of the training split.
    commits: of the hub that were read.
    to_download: bytes of each weight file that is not here yet, None where unknown.
    begins: components that the run begins with, see `Problem`.
  """

  config: FinetuneConfig
  task: Task
  outlined: Pretrained
  attachment: Attachment
  shapes: dict[str, tuple[int, int]]
  method: Method
  mesh: jax.sharding.Mesh
  train_rows: int
  commits: Commits
  to_download: Mapping[str, int | None]
  begins: int = 0

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


def make_plan(
  config: FinetuneConfig,
  record: Record | None = None,
  commits: Commits = LATEST,
  check: Callable[[Task], None] = lambda task: None,
  needs_weights: bool = True,
  begins: int = 0,
  begun: bool = False,
) -> Plan:
  """Reads the data and the model's outline and binds the method to them.

  Args:
    config: the run.
    record: of a run that is opened again: what it says of its data is then taken from
      there, and data are read only where they are used.
    commits: of the hub to read for a run that has begun; those of a record come first.
    check: refuses a task, before the model is held against it.
    needs_weights: whether a folder without weights is refused.
    begins: components that the run begins with, see `Problem`; a record's come first.
    begun: whether its config is settled: then nothing in it is refused for not being
      read.

  Raises:
    ValueError: for whatever cannot work, before weights are read or downloaded, and
      for what does not depend on the data before these are.
  """
  commits = recorded(record) if record else commits
  is_new = record is None and not begun
  if is_new:
    require_read(config.data)
  if config.method == 'full' and config.model.weights:
    raise ValueError(
      f'model.weights={config.model.weights!r} holds weights that stay frozen; method'
      " full trains them all, so it needs model.weights=''"
    )
  task, outlined, to_download = _read(
    at_commits(config, commits), record, check, needs_weights
  )
  model = dataclasses.replace(config.model, scan=outlined.scan)
  config = dataclasses.replace(config, model=model)
  # Every part of a batch is spread over the devices like a batch.
  rows = config.train.batch // config.train.accumulate
  parts = devices_of_model(config.mesh, rows, nbytes(nnx.state(outlined.model)))
  shapes = choose_modules(config, outlined)
  rows_in_all = record.train_rows if record else len(task.splits['train'])
  begins = record.begins if record else begins
  attachment, method = bind(config, task, outlined, shapes, rows_in_all, parts, begins)
  if record is None:
    _require_trained(config, outlined)
    if method.private:
      columns = task.splits['train'].columns
      divided(method.private, columns, config.train.batch, config.seed)
  if is_new:
    _require_read(config, method)
  _check_head_steps(config, outlined, method)
  # The method refuses a mesh that does not divide its rows.
  mesh = choose_mesh(config.mesh, rows, parts, method.rows)
  return Plan(
    config=config,
    task=task,
    outlined=outlined,
    attachment=attachment,
    shapes=shapes,
    method=method,
    mesh=mesh,
    train_rows=rows_in_all,
    commits=Commits(
      model=commits.model or outlined.source.commit,
      data=commits.data or (task.facts and task.facts.hub),
    ),
    to_download=to_download,
    begins=begins,
  )


def _require_trained(config: FinetuneConfig, outlined: Pretrained) -> None:
  """Refuses a run in which nothing would be trained."""
  if config.method == 'head' and not outlined.head_modules:
    raise ValueError(
      "method 'head' trains the head alone, which a task like"
      f' {config.data.task!r} does not have: nothing would be trained; choose from'
      f' {sorted(set(METHODS) - {"head"})}'
    )


def _require_read(config: FinetuneConfig, method: Method) -> None:
  """Refuses settings that the method does not read, or may not keep to."""
  method.require_kept()
  init, default = config.adapter.init, AdapterConfig().init
  if config.method in DRAWN_OTHERWISE and init != default:
    raise ValueError(
      f'adapter.init={init!r} is not read by method {config.method!r}, which draws'
      f' directions from a normal distribution of its own; leave it at {default!r}'
    )


def _check_head_steps(
  config: FinetuneConfig, outlined: Pretrained, method: Method
) -> None:
  steps = config.train.head_steps
  if steps and not outlined.head_modules:
    raise ValueError(
      f'train.head_steps={steps} trains a head that a task like'
      f' {config.data.task!r} does not have; must be 0'
    )
  if steps and method.private:
    raise ValueError(
      f'train.head_steps={steps} trains the head on rows of all workers, which'
      " adapad.feeding='federated' keeps apart; must be 0"
    )


def bind(
  config: FinetuneConfig,
  task: Task,
  outlined: Pretrained,
  shapes: dict[str, tuple[int, int]],
  train_rows: int,
  parts: int,
  begins: int,
) -> tuple[Attachment, Method]:
  """What puts the model together, divided over devices, and the method for it.

  Args:
    config: the run.
    task: its loss and data.
    outlined: the model.
    shapes: (in, out) features of the adapted modules.
    train_rows: rows of the training split.
    parts: devices that share the weights.
    begins: components that training begins with, see `Problem`.

  Raises:
    ValueError: if the method trains what would be divided, or its settings do not fit.
  """
  family = models.family_of(outlined.family)
  divided = models.division(family, nnx.state(outlined.model), parts)
  if divided and config.method == 'full':
    raise ValueError(
      'mesh.model divides weights that stay frozen; method full trains them all, so it'
      ' needs mesh.model=1'
    )
  attachment = Attachment.of(outlined.model, divided)
  problem = adapted_problem(
    attachment,
    outlined.model,
    shapes,
    task.loss,
    optimizer=config.optimizer,
    head_optimizer=config.head_optimizer,
    steps=config.train.total_steps(train_rows),
    batch=config.train.batch,
    scale=config.adapter.scale,
    init=config.adapter.init,
    seed=config.seed,
    accumulate=config.train.accumulate,
    remat=config.model.remat,
    begins=begins,
  )
  return attachment, METHODS[config.method][1](config.settings, problem)


def _read(
  config: FinetuneConfig,
  record: Record | None,
  check: Callable[[Task], None],
  needs_weights: bool,
) -> tuple[Task, Pretrained, Mapping[str, int | None]]:
  """The task, the model's outline, and what is to be downloaded of its weights.

  The cheapest comes first: config.json, the tokenizer, then the data.
  """
  source, head = find_model(config), expected_head(config.data)
  outlined = _outline(config, source, head)
  choose_modules(config, outlined)
  reads_weights = not config.model.random_weights and (
    needs_weights or source.has_weights()
  )
  to_download = source.to_download() if reads_weights else {}
  tokenizer = models.kept_tokenizer(source)
  longest = models.max_length(source)
  task = load_task(config.data, tokenizer, longest, record and record.data)
  check(task)
  if config.train.packing:
    task = task.packed()
  if task.head != head:
    outlined = _outline(config, source, task.head)
  check_vocabulary(tokenizer, outlined.config)
  if reads_weights:
    models.require_head(outlined)
  return task, outlined, to_download


def find_model(config: FinetuneConfig) -> Source:
  """The model of a config; of the hub, all but its weights is fetched.

  Raises:
    ValueError: if there is none, or a folder is asked for by revision.
  """
  name, revision = config.model.source, config.model.revision
  source = models.find(name, revision)
  if revision and source.commit is None:
    raise ValueError(
      f'model.revision={revision!r} is of a model on the hub, {name} is a folder'
    )
  return source


def choose_modules(
  config: FinetuneConfig, outlined: Pretrained
) -> dict[str, tuple[int, int]]:
  """(in, out) features of the modules that the config adapts.

  Raises:
    ValueError: if a pattern matches none.
  """
  choice, heads = config.adapter.choice(), outlined.head_modules
  return choose(outlined.model, choice, outlined.targets, heads)


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


def on_devices_at_hand(config: FinetuneConfig) -> FinetuneConfig:
  """The config of a run elsewhere: with a mesh of its own, or where that takes more
  devices than there are, with the one that is chosen here.
  """
  mesh = config.mesh
  wanted = math.prod(max(size, 1) for size in (mesh.worker, mesh.data, mesh.model))
  if wanted <= jax.device_count():
    return config
  return dataclasses.replace(config, mesh=MeshConfig())


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


def _outline(config: FinetuneConfig, source: Source, head: Head) -> Pretrained:
  model = config.model
  head = dataclasses.replace(head, dropout=model.head_dropout)
  return models.outline(
    source,
    head,
    dtype=model.dtype,
    weights=model.weights,
    hidden_dropout=model.hidden_dropout,
    attention_dropout=model.attention_dropout,
    scan=model.scan,
    remat=model.remat,
    fused=model.fused,
  )
