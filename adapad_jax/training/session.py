"""A plan with its weights in memory, and the states that were saved for it."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from adapad_jax import models
from adapad_jax.adapters import split_model
from adapad_jax.lowrank import Deployed
from adapad_jax.sharding import MODEL, fetch, put_one
from adapad_jax.training.checkpoints import Checkpoints, Restored, restore_target
from adapad_jax.training.evaluate import Evaluator, make_evaluator
from adapad_jax.training.plan import Plan
from adapad_jax.workdir import CHECKPOINTS


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
  checkpoints = Checkpoints(workdir / CHECKPOINTS, read_only=True)
  restored = restore(session, checkpoints, kind)
  checkpoints.close()
  if restored is None:
    raise ValueError(f'{workdir / CHECKPOINTS} holds no {kind} checkpoint yet')
  deployed = plan.method.deploy(plan.method.place(restored.state, plan.mesh))
  return Opened(session, restored, deployed)
