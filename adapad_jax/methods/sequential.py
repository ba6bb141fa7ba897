"""Sequential deflation: one component at a time, frozen after its share of the steps.

Component k of every module trains with its predecessors frozen, then is frozen itself;
each starts its own warm-up and decay. Early components, which all others build on, get
more steps: 1 + alpha x_k times an equal share, x_k falling evenly from 1 to -1
(arXiv:2505.22602).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.lowrank import Delta, Deployed, LowRank, init_updates
from adapad_jax.lowrank.update import check_rank
from adapad_jax.methods.joint import Joint, Rule, Tuned
from adapad_jax.optim import Optimizer, step_stacks
from adapad_jax.problem import Problem
from adapad_jax.ranges import Count, NonNegative
from adapad_jax.settings import check


@dataclasses.dataclass(frozen=True)
class SequentialSettings:
  """Settings of sequential deflation.

  Attributes:
    rank: components of every module.
    alpha: how much more the first component trains than the last; 0: equal shares.
  """

  rank: Count = 2
  alpha: NonNegative = 0.5

  def __post_init__(self) -> None:
    check(self, 'sequential')

  def lengths(self, steps: int) -> np.ndarray:
    """Steps of each component, (R,); they sum to `steps`.

    Shares below a twentieth of an equal one are raised to it, so that an alpha above
    one leaves the last component something to train on.
    """
    x_R = np.linspace(1.0, -1.0, self.rank) if self.rank > 1 else np.zeros(1)
    share_R = np.maximum(1 + self.alpha * x_R, 0.05)
    edges = np.rint(np.cumsum(share_R) / share_R.sum() * steps).astype(int)
    return np.diff(edges, prepend=0)


@dataclasses.dataclass(frozen=True, eq=False)
class Sequential(Rule):
  """Delta W = s sum_k a_k^T b_k; only the component of the phase trains."""

  problem: Problem
  capacity: int
  lengths_R: np.ndarray

  def start(self, key: jax.Array) -> Tuned:
    """Kaiming or other input directions, zero output directions."""
    components = init_updates(
      key, self.problem.shapes, self.capacity, self.problem.init
    )
    init = jax.vmap(self.problem.optimizer.transform().init)
    moments = {name: init(c) for name, c in components.items()}
    return Tuned(components, moments, auxiliary=())

  def phase(self, step: jax.Array) -> jax.Array:
    """Index of the component that trains at a step; the last one after the end."""
    ends_R = jnp.asarray(np.cumsum(self.lengths_R))
    return jnp.minimum(jnp.sum(step >= ends_R), self.capacity - 1)

  def forward(
    self,
    model: Any,
    variables: dict[str, LowRank],
    tuned: Tuned,
    step: jax.Array,
    rows: int,
  ) -> tuple[Any, dict[str, Delta]]:
    """Every row sees the components up to the phase's and trains that one."""
    phase, index_R = self.phase(step), jnp.arange(self.capacity)
    spread = lambda mask_R: jnp.broadcast_to(
      mask_R.astype(jnp.float32), (rows, self.capacity)
    )
    sees_BR, trains_BR = spread(index_R <= phase), spread(index_R == phase)
    scale = self.problem.scale
    deltas = {
      name: Delta(c.a_RI, scale * c.b_RO, sees_BR, trains_BR)
      for name, c in variables.items()
    }
    return model, deltas

  def update(self, tuned: Tuned, grads: Any, step: jax.Array) -> Tuned:
    """Steps the phase's component; the others have no gradient and do not move."""
    optimizer, modules = self.problem.optimizer, self.problem.modules
    phase = self.phase(step)
    starts_R = np.cumsum(self.lengths_R) - self.lengths_R
    age = step - jnp.asarray(starts_R)[phase]
    rates = [self._optimizer(n).rate_at(age, age, int(n)) for n in self.lengths_R]
    shape = len(modules), self.capacity
    gate_MR = jnp.broadcast_to(jnp.arange(self.capacity)[None] == phase, shape)
    rate_MR = jnp.broadcast_to(jnp.stack(rates)[phase], shape)
    params, moments = step_stacks(
      modules,
      optimizer,
      gate_MR,
      rate_MR,
      tuned.params,
      optimizer.clipped(grads),
      tuned.moments,
    )
    return Tuned(params, moments, tuned.auxiliary)

  def _optimizer(self, length: int) -> Optimizer:
    """The optimiser with the phase's share of the warm-up."""
    optimizer = self.problem.optimizer
    warmup = round(optimizer.warmup * length / self.problem.steps)
    return dataclasses.replace(optimizer, warmup=warmup)

  def ranks(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """As many as phases have begun."""
    return jnp.full(len(self.problem.shapes), self.phase(step) + 1)

  def deploy(self, tuned: Tuned, step: jax.Array, head: Any) -> Deployed:
    """The components of the phases that have begun, in their order."""
    scaled = {name: u.scaled(self.problem.scale) for name, u in tuned.params.items()}
    begun_S = jnp.arange(self.capacity) <= self.phase(step)
    shape = len(scaled), self.capacity
    active_MS = jnp.broadcast_to(begun_S.astype(jnp.float32), shape)
    return Deployed(scaled, active_MS, head)

  def timeline(self) -> list[tuple[int, int]]:
    """A component in every module at the start of each phase."""
    starts_R = np.cumsum(self.lengths_R) - self.lengths_R
    modules = len(self.problem.shapes)
    return [(int(at), (k + 1) * modules) for k, at in enumerate(starts_R)]


def build(settings: SequentialSettings, problem: Problem) -> Joint:
  """Binds settings to a problem.

  Raises:
    ValueError: if a module has fewer dimensions than the rank, or the run fewer steps
      than components need.
  """
  check_rank(problem.shapes, settings.rank, 'sequential.rank')
  lengths_R = settings.lengths(problem.steps)
  if lengths_R.min() < 1:
    raise ValueError(
      f'{problem.steps} steps leave {lengths_R.tolist()} for the {settings.rank}'
      ' components of sequential deflation; train longer, or lower sequential.rank or'
      ' sequential.alpha'
    )
  return Joint(problem, Sequential(problem, settings.rank, lengths_R))
