"""DyLoRA (arXiv:2210.07558): one run whose update can be cut to any rank.

Every step draws a width w from 1..r, the same for all modules, and trains the update
that is left of the first w components:

    Delta W = s (r / w) sum_{k <= w} a_k^T b_k

All of them train, or with `frozen` component w alone. The factor r / w (each side times
sqrt(r / w) in the authors' code) is part of every prefix that is deployed: an update of
rank k is s (r / k) times its terms.

As in the authors' code (github.com/huawei-noah/Efficient-NLP, DyLoRA), components that
a step leaves out have zero gradients but the optimiser steps them too, so Adam's
momentum and weight decay move them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.lowrank import Delta, Deployed, LowRank
from adapad_jax.lowrank.update import check_rank
from adapad_jax.methods.joint import Joint, Rule, Tuned, drawn_start, step_all
from adapad_jax.problem import Problem
from adapad_jax.ranges import Count
from adapad_jax.settings import check


@dataclasses.dataclass(frozen=True)
class DyLoRASettings:
  """Settings of DyLoRA.

  Attributes:
    rank: components of every module; the largest width.
    frozen: train the last component of the width alone, against those before it.
  """

  rank: Count = 2
  frozen: bool = False

  def __post_init__(self) -> None:
    check(self, 'dylora')


@dataclasses.dataclass(frozen=True, eq=False)
class DyLoRA(Rule):
  """The rule; its auxiliary state is the key that widths are drawn from."""

  problem: Problem
  settings: DyLoRASettings

  @property
  def capacity(self) -> int:
    """The largest width."""
    return self.settings.rank

  def start(self, key: jax.Array) -> Tuned:
    """Kaiming or other input directions, zero output directions."""
    widths = jax.random.key_data(jax.random.fold_in(key, len(self.problem.shapes)))
    return drawn_start(self.problem, self.capacity, key, widths)

  def width(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """The width of a step, uniform in 1..r; of the key and the step alone."""
    key = jax.random.fold_in(jax.random.wrap_key_data(tuned.auxiliary), step)
    return jax.random.randint(key, (), 1, self.capacity + 1)

  def forward(
    self,
    model: Any,
    variables: dict[str, LowRank],
    tuned: Tuned,
    step: jax.Array,
    rows: int,
  ) -> tuple[Any, dict[str, Delta]]:
    """Every row sees the components of the width."""
    width, index_R = self.width(tuned, step), jnp.arange(self.capacity)
    sees_R = index_R < width
    trains_R = index_R == width - 1 if self.settings.frozen else sees_R
    spread = lambda mask_R: jnp.broadcast_to(
      mask_R.astype(jnp.float32), (rows, self.capacity)
    )
    scale = self.problem.scale * self.capacity / width
    deltas = {
      name: Delta(c.a_RI, scale * c.b_RO, spread(sees_R), spread(trains_R))
      for name, c in variables.items()
    }
    return model, deltas

  def update(self, tuned: Tuned, grads: Any, step: jax.Array) -> Tuned:
    """Clips, then steps everything at the run's rate."""
    return step_all(self.problem, tuned, grads, step)

  def ranks(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """The largest width, everywhere."""
    return jnp.full(len(self.problem.shapes), self.capacity)

  def deploy(self, tuned: Tuned, step: jax.Array, head: Any) -> Deployed:
    """In the order of training; prefixes rescaled as they were trained."""
    scaled = {name: u.scaled(self.problem.scale) for name, u in tuned.params.items()}
    active_MS = jnp.ones((len(scaled), self.capacity))
    return Deployed(scaled, active_MS, head, rescaled=True)

  def timeline(self) -> list[tuple[int, int]]:
    """Constant."""
    return [(0, self.capacity * len(self.problem.shapes))]


def build(settings: DyLoRASettings, problem: Problem) -> Joint:
  """Binds settings to a problem.

  Raises:
    ValueError: if a module has fewer dimensions than the rank.
  """
  check_rank(problem.shapes, settings.rank, 'dylora.rank')
  return Joint(problem, DyLoRA(problem, settings))
