"""Full fine-tuning: every parameter of the model, the ceiling in parameters."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.lowrank import Deployed
from adapad_jax.lowrank.update import no_updates
from adapad_jax.methods.joint import Joint, Rule, Tuned, step_all
from adapad_jax.problem import Problem


@dataclasses.dataclass(frozen=True)
class FullSettings:
  """There is nothing to set; `optimizer` trains the model, `head_optimizer` the head.

  Rates ten to a hundred times lower than those of adapters are usual.
  """


@dataclasses.dataclass(frozen=True, eq=False)
class Full(Rule):
  """Trains what is added to the pretrained parameters, in float32.

  That is the same as training the parameters, and starts as a no-op; weight decay
  pulls towards the pretrained parameters and not towards zero.
  """

  problem: Problem
  capacity: int = 0

  def start(self, key: jax.Array) -> Tuned:
    """Zero changes."""
    changes = jax.tree.map(lambda x: jnp.zeros(x.shape), self.problem.params)
    moments = self.problem.optimizer.transform().init(changes)
    return Tuned(changes, moments, auxiliary=())

  def forward(
    self, model: Any, variables: Any, tuned: Tuned, step: jax.Array, rows: int
  ) -> tuple[Any, dict[str, Any]]:
    """The model with its changes."""
    whole = jax.tree.map(lambda p, c: (p + c).astype(p.dtype), model, variables)
    return whole, {}

  def update(self, tuned: Tuned, grads: Any, step: jax.Array) -> Tuned:
    """Clips, then steps everything at the run's rate."""
    return step_all(self.problem, tuned, grads, step)

  def ranks(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """Zero: there are no components."""
    return jnp.zeros(len(self.problem.shapes), jnp.int32)

  def deploy(self, tuned: Tuned, step: jax.Array, head: Any) -> Deployed:
    """The changes themselves."""
    shapes = self.problem.shapes
    nothing_MS = jnp.zeros((len(shapes), 0))
    return Deployed(no_updates(shapes), nothing_MS, head, changes=tuned.params)

  def timeline(self) -> list[tuple[int, int]]:
    """Constant."""
    return [(0, 0)]


def build(settings: FullSettings, problem: Problem) -> Joint:
  """Binds to a problem."""
  return Joint(problem, Full(problem))
