"""Parallel deflation with rank discovery, bound to what it trains."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax import train_step
from adapad_jax.deflation.discovery import Discovery, Ranks
from adapad_jax.deflation.feeding import Feeding, make_feeding
from adapad_jax.deflation.settings import AdaPaDSettings
from adapad_jax.deflation.state import State
from adapad_jax.lowrank import Packing
from adapad_jax.problem import Problem


# Compared by identity, so that compiled functions may take it as a constant.
@dataclasses.dataclass(frozen=True, eq=False)
class Deflation:
  """Parallel deflation with rank discovery.

  Attributes:
    problem: modules, loss and optimisers; the modules' order breaks ties in discovery.
    settings: resolved for it.

  Raises:
    ValueError: if batches cannot be shared as the settings want.
  """

  problem: Problem
  settings: AdaPaDSettings

  def __post_init__(self) -> None:
    _ = self.feeding  # which refuses what cannot work

  @property
  def rounds(self) -> int:
    """Length of the run; schedules end with it."""
    return rounds_of(self.settings, self.problem)

  @functools.cached_property
  def packing(self) -> Packing:
    """Where the components of each module lie."""
    return Packing.of(self.problem.shapes, self.problem.stacks)

  @functools.cached_property
  def feeding(self) -> Feeding:
    """Who sees which rows."""
    return make_feeding(self.settings, self.problem.batch, self.rounds)

  @functools.cached_property
  def discovery(self) -> Discovery:
    """Who has how many components."""
    limits = limits_of(self.settings, self.problem)
    return Discovery(self.settings, limits)

  def init(self, stack_RMP: jax.Array, head: Any) -> State:
    """The state before the first round, of components that are packed."""
    transform = self.problem.optimizer.transform()
    return State(
      **train_step.fresh(self.problem, head),
      stack_RMP=stack_RMP,
      moments=jax.vmap(jax.vmap(transform.init))(stack_RMP),
      age_RM=jnp.zeros(stack_RMP.shape[:2], jnp.int32),
      ranks=self.discovery.init(len(self.packing.modules)),
    )

  def masks(self, ranks: Ranks, width: int) -> tuple[jax.Array, jax.Array]:
    """(active, live) over `width` >= r_max components; the padding is neither."""
    pad = ((0, 0), (0, width - self.settings.r_max))
    active_MS, live_MS = self.discovery.masks(ranks)
    return jnp.pad(active_MS, pad), jnp.pad(live_MS, pad)


def limits_of(settings: AdaPaDSettings, problem: Problem) -> tuple[int, ...]:
  """The most components that each module grows to: no more than its dimensions."""
  return tuple(min(settings.r_max, *shape) for shape in problem.shapes.values())


def rounds_of(settings: AdaPaDSettings, problem: Problem) -> int:
  """Rounds of a run: each takes as many batches as there are local steps."""
  return max(problem.steps // settings.local_steps, 1)
