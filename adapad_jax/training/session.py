"""A plan with its weights in memory and its compiled programs."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from adapad_jax import models
from adapad_jax.adapters import split_model
from adapad_jax.files import require_shape
from adapad_jax.methods.head import head_alone
from adapad_jax.sharding import MODEL, fetch, put_one
from adapad_jax.training.checkpoints import Checkpoints, target_of
from adapad_jax.training.evaluate import Evaluator, make_evaluator
from adapad_jax.training.plan import Plan
from adapad_jax.training.progress import Progress, beginning
from adapad_jax.workdir import CHECKPOINTS
from adapad_jax.workdir.stored import META


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

  @functools.cached_property
  def round(self) -> Callable[..., tuple[Any, dict[str, jax.Array]]]:
    """The method's rounds, compiled when they are first called."""
    return self.plan.method.live_rounds(self.plan.mesh)

  @functools.cached_property
  def evaluator(self) -> Evaluator:
    """Predictions and metrics, compiled when they are first asked for."""
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

  def beginning(self, batch_of: Callable[[int], Any]) -> Progress:
    """Before the first round, whose start may be made of the first batches."""
    plan, head = self.plan, self.head
    if steps := plan.config.train.head_steps:
      problem = plan.method.problem
      head = head_alone(problem, head, plan.mesh, self.params, batch_of, steps)
    return beginning(plan.method, head, plan.mesh, self.params, batch_of)

  def saved(self, checkpoints: Checkpoints, kind: str) -> Progress | None:
    """Where the run stood at its newest save of a kind; None if there is none.

    The state is on the mesh at hand, whatever devices it was saved on.

    Raises:
      ValueError: if what was saved cannot be read, or is of another run.
    """
    plan = self.plan
    fresh = jax.eval_shape(plan.method.init, self.head)
    found = checkpoints.read(kind, target_of(fresh, plan.mesh))
    if found is None:
      return None
    step, state, meta = found
    require_shape(meta, META, f'{CHECKPOINTS}/{kind}/{step}/meta')
    return Progress(plan.method.place(state, plan.mesh), step, **meta)


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
