"""A plan with its weights in memory, and the states that were saved for it."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from adapad_jax import models
from adapad_jax.adapters import Adapter, LowRank, split_model
from adapad_jax.deflation.deployed import Deployed
from adapad_jax.files import read_json, write_json
from adapad_jax.processes import is_first
from adapad_jax.settings import as_dict
from adapad_jax.sharding import MODEL, fetch, put_one
from adapad_jax.training.checkpoints import Checkpoints, Restored, restore_target
from adapad_jax.training.config import FinetuneConfig, finetune_config
from adapad_jax.training.evaluate import Evaluator, make_evaluator
from adapad_jax.training.plan import Plan

CONFIG, CHECKPOINTS = 'config.json', 'checkpoints'
# Fields that may change while a run is on.
_FREE = ('mesh.', 'train.wandb', 'train.profile', 'train.watchdog')


@dataclasses.dataclass(frozen=True)
class Session:
  """What training, evaluation and export all need.

  Attributes:
    plan: what was checked.
    pretrained: the model.
    params: its arrays, on every device or divided over `model`.
    head: the head's parameters before training, on the host.
  """

  plan: Plan
  pretrained: models.Pretrained
  params: Any
  head: Any

  def evaluator(self) -> Evaluator:
    """Compiles predictions on demand."""
    plan = self.plan
    train = plan.config.train
    return make_evaluator(
      plan.task,
      plan.attachment,
      plan.modules,
      plan.mesh,
      train.eval_batch,
      train.buckets,
      train.watchdog,
    )


def open_session(plan: Plan) -> Session:
  """Reads the weights and puts them on the current mesh."""
  config = plan.config
  pretrained = models.fill(
    plan.outlined,
    seed=config.seed,
    random_weights=config.model.random_weights,
    place=functools.partial(_place, dict(plan.attachment.divided), plan.mesh),
  )
  _, params, head = split_model(pretrained.model, pretrained.head_modules)
  return Session(plan, pretrained, params, fetch(head))


def _place(
  divided: Mapping[str, int], mesh: jax.sharding.Mesh, path: str, host: np.ndarray
) -> jax.Array:
  """A parameter where it stays."""
  return put_one(host, jax.NamedSharding(mesh, spec_of(divided, path, host.ndim)))


def spec_of(
  divided: Mapping[str, int], path: str, ndim: int
) -> jax.sharding.PartitionSpec:
  """How a parameter lies: whole on every device, or divided over `model`."""
  spec = [None] * ndim
  if path in divided:
    spec[divided[path]] = MODEL
  return jax.P(*spec)


def claim_workdir(workdir: pathlib.Path, config: FinetuneConfig) -> None:
  """Writes the config into a new workdir, or checks that it is the one there.

  The mesh, where logs go and what is traced may change from one start to the next,
  nothing else.

  Raises:
    ValueError: naming the fields that differ.
  """
  path = workdir / CONFIG
  mine = as_dict(config)
  if not path.is_file():
    if is_first():
      write_json(path, mine)
    return
  # Read through the settings, so that a field which is newer than the run has its
  # default there.
  flat_mine, flat_there = _flat(mine), _flat(as_dict(read_workdir(workdir)))
  differ = [
    f'{name} is {flat_mine.get(name)!r}, there it is {flat_there.get(name)!r}'
    for name in sorted(flat_mine | flat_there)
    if flat_mine.get(name) != flat_there.get(name) and not name.startswith(_FREE)
  ]
  if differ:
    raise ValueError(
      f'{workdir} holds a run with another config: {"; ".join(differ)};'
      ' choose another --workdir, or remove that one'
    )


def is_regression(workdir: pathlib.Path) -> bool:
  """Whether a workdir holds a run of `program = 'regression'`."""
  path = workdir / CONFIG
  return path.is_file() and read_json(path).get('program') == 'regression'


def read_workdir(workdir: pathlib.Path) -> FinetuneConfig:
  """The config of the run in a workdir.

  Raises:
    ValueError: if there is none.
  """
  path = workdir / CONFIG
  if not path.is_file():
    raise ValueError(f'{workdir} holds no run: there is no {CONFIG}; train one first')
  if is_regression(workdir):
    raise ValueError(
      f"{workdir} holds a run of program 'regression', which knows --mode=train, eval"
      ' and report'
    )
  values = read_json(path)
  return finetune_config(values | {values['method']: values.pop('settings')})


def _flat(value: Any, prefix: str = '') -> dict[str, Any]:
  if not isinstance(value, dict):
    return {prefix.rstrip('.'): value}
  merged: dict[str, Any] = {}
  for name, item in value.items():
    merged |= _flat(item, f'{prefix}{name}.')
  return merged


def restore(session: Session, checkpoints: Checkpoints, kind: str) -> Restored | None:
  """The saved state of a kind, on the mesh at hand."""
  fresh = jax.eval_shape(session.plan.method.init, session.head)
  return checkpoints.restore(kind, restore_target(fresh, session.plan.mesh))


@dataclasses.dataclass(frozen=True)
class Opened:
  """A run as it was saved.

  Attributes:
    session: the model.
    restored: the saved state.
    deployed: its update.
  """

  session: Session
  restored: Restored
  deployed: Deployed


def open_run(plan: Plan, workdir: pathlib.Path, kind: str) -> Opened:
  """The model and the saved update of the run in a workdir, on the plan's mesh.

  Raises:
    ValueError: if nothing of that kind has been saved yet.
  """
  session = open_session(plan)
  checkpoints = Checkpoints(workdir / CHECKPOINTS)
  restored = restore(session, checkpoints, kind)
  checkpoints.close()
  if restored is None:
    raise ValueError(f'{workdir / CHECKPOINTS} holds no {kind} checkpoint yet')
  deployed = plan.method.deploy(plan.method.place(restored.state, plan.mesh))
  return Opened(session, restored, deployed)


def host_adapter(modules: tuple[str, ...], deployed: Deployed) -> Adapter:
  """An update on the host, inactive components left out.

  Raises:
    ValueError: if the model's own parameters were changed: that is no adapter.
  """
  if deployed.changes is not None:
    raise ValueError(
      'this run changed every parameter of the model (method full), which no adapter'
      ' can hold; use its checkpoints, or train with another method'
    )
  host = jax.device_get(deployed)
  updates = {}
  for m, name in enumerate(modules):
    rank = int(host.active_MS[m].sum())
    one = host.components[name]
    updates[name] = LowRank(one.a_RI[:rank], one.b_RO[:rank])
  return Adapter(updates, host.head)
