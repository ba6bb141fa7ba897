"""The head alone on the frozen model: the floor that adapters have to beat."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.lowrank import Deployed
from adapad_jax.lowrank.update import no_updates
from adapad_jax.methods.joint import Joint, Rule, Tuned, one_step, replicated
from adapad_jax.problem import Problem


@dataclasses.dataclass(frozen=True)
class HeadSettings:
  """There is nothing to set; the head has its own optimiser."""


@dataclasses.dataclass(frozen=True, eq=False)
class HeadOnly(Rule):
  """No update at all: `Joint` steps the head."""

  problem: Problem
  capacity: int = 0

  def start(self, key: jax.Array) -> Tuned:
    """Nothing."""
    return Tuned(params=(), moments=(), auxiliary=())

  def forward(
    self, model: Any, variables: Any, tuned: Tuned, step: jax.Array, rows: int
  ) -> tuple[Any, dict[str, Any]]:
    """The model as it is."""
    return model, {}

  def update(self, tuned: Tuned, grads: Any, step: jax.Array) -> Tuned:
    """Nothing to step."""
    return tuned

  def ranks(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """Zero, everywhere."""
    return jnp.zeros(len(self.problem.shapes), jnp.int32)

  def deploy(self, tuned: Tuned, step: jax.Array, head: Any) -> Deployed:
    """The head alone."""
    shapes = self.problem.shapes
    return Deployed(no_updates(shapes), jnp.zeros((len(shapes), 0)), head)

  def timeline(self) -> list[tuple[int, int]]:
    """Constant."""
    return [(0, 0)]


def head_alone(
  problem: Problem,
  head: Any,
  mesh: jax.sharding.Mesh,
  model: Any,
  batch_of: Callable[[int], Any],
  steps: int,
) -> Any:
  """The head after so many steps on the frozen model, with the rates of the run.

  Args:
    problem: what will be trained.
    head: before any training.
    mesh: the devices.
    model: frozen parameters.
    batch_of: the batches of the round after so many.
    steps: how many; the batches are those that training begins with, the first of each
      round.

  Raises:
    ValueError: if a loss is not finite.
  """
  rule = HeadOnly(problem)
  state = replicated(jax.jit(Joint(problem, rule).init)(head), mesh)
  step = one_step(problem, rule, mesh)
  for number in range(steps):
    state, _ = step(state, model, batch_of(number))
  if (failed := int(state.failed)) >= 0:
    raise ValueError(
      f'step {failed + 1} of train.head_steps={steps} was not finite; lower'
      ' head_optimizer.learning_rate'
    )
  return jax.device_get(state.head)


def build(settings: HeadSettings, problem: Problem) -> Joint:
  """Binds to a problem."""
  return Joint(problem, HeadOnly(problem))
