"""IncreLoRA (arXiv:2308.12043): grows ranks where the update matters most.

Updates have the form s_m a^T diag(e) b, s_m = alpha / rank_m, with a regulariser for
orthogonality. Every module starts with one component and a reserve of `gain` more,
whose directions train behind a tiny fixed value, so that they are no stranger to the
task when the module is selected. A component has a rate schedule of its own from the
step in which it enters. A module's score is that of

    I_m = sum_ij |dW_ij G_ij| / sqrt(I O),    G = dL / d dW_m

by moving averages of I and of its variability, multiplied. Faults of the original that
stay out are listed in docs/methods.md.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.lowrank import Deployed
from adapad_jax.lowrank.svd import by_singular_values
from adapad_jax.lowrank.update import check_rank
from adapad_jax.methods.adapad import ledger
from adapad_jax.methods.increlora_settings import IncreLoRASettings
from adapad_jax.methods.joint import Joint, Rule, Tuned
from adapad_jax.methods.method import RankReport
from adapad_jax.methods.triplets import (
  Triplet,
  deltas_of,
  init_triplets,
  orthogonality,
)
from adapad_jax.methods.weight_gradient import Probed
from adapad_jax.optim import step_stacks
from adapad_jax.problem import Problem

_RESERVE = 1e-5


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Growth:
  """Ranks, what growth goes by, and the ages of components.

  Attributes:
    rank_M: active components.
    importance_M, uncertainty_M: moving averages of I and its variability.
    age_MR, value_age_MR: steps that directions and values have taken.
    granted_MR: the step in which a component was activated, -1 if it was not.
    score_MR: the module's score at that step.
  """

  rank_M: jax.Array
  importance_M: jax.Array
  uncertainty_M: jax.Array
  age_MR: jax.Array
  value_age_MR: jax.Array
  granted_MR: jax.Array
  score_MR: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class IncreLoRA(Rule):
  """The rule; see the module."""

  problem: Problem
  settings: IncreLoRASettings

  @property
  def capacity(self) -> int:
    """Components that a module may have."""
    return self.settings.r_max

  def start(self, key: jax.Array) -> Tuned:
    """Random directions; the first value is zero, those in reserve are tiny."""
    shapes, width = self.problem.shapes, self.capacity
    reserve = _RESERVE if self.settings.advance else 0.0
    e_R = jnp.full(width, reserve).at[0].set(0.0)
    triplets = {
      name: dataclasses.replace(t, e_R=e_R)
      for name, t in init_triplets(key, shapes, width).items()
    }
    init = jax.vmap(self.problem.optimizer.transform().init)
    moments = {
      name: (init(_directions(t)), init(t.e_R)) for name, t in triplets.items()
    }
    return Tuned(triplets, moments, _before_growth(len(shapes), width))

  def growing(self, auxiliary: Growth) -> jax.Array:
    """Whether the budget is not spent yet."""
    return jnp.sum(auxiliary.rank_M) < self.settings.budget

  def masks(self, auxiliary: Growth) -> tuple[jax.Array, jax.Array]:
    """(active, live), each (M, R) of 0/1: deployed, and active or in reserve."""
    index_R, rank_M1 = jnp.arange(self.capacity)[None], auxiliary.rank_M[:, None]
    reserve = self.settings.gain * self.growing(auxiliary) * self.settings.advance
    active_MR, live_MR = index_R < rank_M1, index_R < rank_M1 + reserve
    return active_MR.astype(jnp.float32), live_MR.astype(jnp.float32)

  def scales(self, auxiliary: Growth) -> jax.Array:
    """alpha / rank of every module, (M, 1); `adapter.scale` at the average rank."""
    alpha = self.problem.scale * self.settings.budget / len(self.problem.modules)
    return (alpha / (auxiliary.rank_M + 1e-5))[:, None]

  def variables(self, tuned: Tuned) -> Any:
    """The triplets, and zeros whose gradient is G."""
    probes = {}
    if self.settings.score == 'full':
      probes = {name: jnp.zeros(shape) for name, shape in self.problem.shapes.items()}
    return tuned.params, probes

  def forward(
    self, model: Any, variables: Any, tuned: Tuned, step: jax.Array, rows: int
  ) -> tuple[Any, dict[str, Any]]:
    """All live triplets, probed where the score needs G."""
    triplets, probes = variables
    weight_MR = self.masks(tuned.auxiliary)[1] * self.scales(tuned.auxiliary)
    deltas = deltas_of(self.problem.modules, triplets, weight_MR, rows)
    growing = self.growing(tuned.auxiliary)
    probed = {name: Probed(deltas[name], p, growing) for name, p in probes.items()}
    return model, deltas | probed

  def importance(self, tuned: Tuned, grads: Any) -> jax.Array:
    """I of every module, (M,), from the unclipped gradient of the task's loss."""
    triplet_grads, probes = grads
    weight_MR = self.masks(tuned.auxiliary)[1] * self.scales(tuned.auxiliary)
    found = []
    for m, name in enumerate(self.problem.modules):
      root = np.sqrt(np.prod(self.problem.shapes[name]))
      if self.settings.score == 'full':
        one = tuned.params[name].component(weight_MR[m])
        total = jnp.sum(jnp.abs((one.a_RI.T @ one.b_RO) * probes[name]))
      else:
        total = jnp.abs(jnp.sum(tuned.params[name].e_R * triplet_grads[name].e_R))
      found.append(total / root)
    return jnp.stack(found)

  def update(self, tuned: Tuned, grads: Any, step: jax.Array) -> Tuned:
    """Scores by the parameters as they were, the step, and growth if it is due."""
    active_MR, live_MR = self.masks(tuned.auxiliary)
    importance_M = self.importance(tuned, grads)
    grads = self._gradients(tuned.params, grads[0], active_MR, live_MR)
    params, moments = self._step(tuned, grads, active_MR, live_MR, step)
    auxiliary = dataclasses.replace(
      tuned.auxiliary,
      age_MR=tuned.auxiliary.age_MR + live_MR.astype(jnp.int32),
      value_age_MR=tuned.auxiliary.value_age_MR + active_MR.astype(jnp.int32),
    )
    return Tuned(params, moments, self._grow(auxiliary, importance_M, step))

  def _gradients(
    self, params: Any, grads: Any, active_MR: jax.Array, live_MR: jax.Array
  ) -> dict[str, Triplet]:
    """The clipped gradient of the whole loss; values in reserve have none."""
    modules, weight = self.problem.modules, self.settings.orthogonal
    penalty = lambda x: weight * orthogonality(modules, x, live_MR)
    total = jax.tree.map(jnp.add, grads, jax.grad(penalty)(params))
    fixed = {
      name: dataclasses.replace(total[name], e_R=total[name].e_R * active_MR[m])
      for m, name in enumerate(modules)
    }
    return self.problem.optimizer.clipped(fixed)

  def _step(
    self,
    tuned: Tuned,
    grads: dict[str, Triplet],
    active_MR: jax.Array,
    live_MR: jax.Array,
    step: jax.Array,
  ) -> tuple[dict[str, Triplet], Any]:
    """Directions and values with their own ages, rates and moments."""
    optimizer, modules = self.problem.optimizer, self.problem.modules
    rate = lambda age_MR: optimizer.rate_at(age_MR, step, self.problem.steps)
    pick = lambda tree, part: {name: part(tree[name]) for name in modules}
    directions, direction_moments = step_stacks(
      modules,
      optimizer,
      live_MR > 0,
      rate(tuned.auxiliary.age_MR),
      pick(tuned.params, _directions),
      pick(grads, _directions),
      pick(tuned.moments, lambda pair: pair[0]),
    )
    values, value_moments = step_stacks(
      modules,
      optimizer,
      active_MR > 0,
      rate(tuned.auxiliary.value_age_MR),
      pick(tuned.params, lambda t: t.e_R),
      pick(grads, lambda t: t.e_R),
      pick(tuned.moments, lambda pair: pair[1]),
    )
    params = {name: Triplet(*directions[name], values[name]) for name in modules}
    moments = {name: (direction_moments[name], value_moments[name]) for name in modules}
    return params, moments

  def _grow(
    self, auxiliary: Growth, importance_M: jax.Array, step: jax.Array
  ) -> Growth:
    """Updates the averages while there is budget, and allocates if that is due."""
    s, growing = self.settings, self.growing(auxiliary)
    mean_M = s.beta1 * auxiliary.importance_M + (1 - s.beta1) * importance_M
    off_M = jnp.abs(importance_M - mean_M)
    spread_M = s.beta2 * auxiliary.uncertainty_M + (1 - s.beta2) * off_M
    mean_M = jnp.where(growing, mean_M, auxiliary.importance_M)
    spread_M = jnp.where(growing, spread_M, auxiliary.uncertainty_M)
    due = growing & (step > s.start) & (step % s.interval == 0)
    score_M = mean_M * spread_M
    grant_M = jnp.where(due, self.grants(auxiliary.rank_M, score_M), 0)
    index_R, rank_M1 = jnp.arange(self.capacity)[None], auxiliary.rank_M[:, None]
    new_MR = (index_R >= rank_M1) & (index_R < rank_M1 + grant_M[:, None])
    return dataclasses.replace(
      auxiliary,
      rank_M=auxiliary.rank_M + grant_M,
      importance_M=mean_M,
      uncertainty_M=spread_M,
      granted_MR=jnp.where(new_MR, step, auxiliary.granted_MR),
      score_MR=jnp.where(new_MR, score_M[:, None], auxiliary.score_MR),
    )

  def grants(self, rank_M: jax.Array, score_M: jax.Array) -> jax.Array:
    """Components for each module, (M,): the best get `gain`, never over the budget."""
    s, left = self.settings, self.settings.budget - jnp.sum(rank_M)
    room_M = jnp.minimum(s.gain, s.r_max - rank_M)
    # A stable sort of the negated score: ties go to the lower module index.
    order_M = jnp.argsort(jnp.where(room_M > 0, -score_M, jnp.inf), stable=True)
    chosen_M = jnp.arange(len(score_M)) < jnp.minimum(s.grants_per_event, left)
    wish_M = jnp.where(chosen_M, room_M[order_M], 0)
    before_M = jnp.cumsum(wish_M) - wish_M
    return jnp.clip(left - before_M, 0, wish_M)[jnp.argsort(order_M)]

  def ranks(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """Active components; the reserve does not count."""
    return tuned.auxiliary.rank_M

  def deploy(self, tuned: Tuned, step: jax.Array, head: Any) -> Deployed:
    """The active components, in order of singular values."""
    active_MR, _ = self.masks(tuned.auxiliary)
    weight_MR = active_MR * self.scales(tuned.auxiliary)
    components = {
      name: tuned.params[name].component(weight_MR[m])
      for m, name in enumerate(self.problem.modules)
    }
    return Deployed(by_singular_values(components), active_MR, head)

  def report(self, rank_M: np.ndarray, auxiliary: Growth) -> RankReport:
    """Ranks, importance and the ledger of grants."""
    return RankReport(
      rank_M=rank_M,
      importance_M=auxiliary.importance_M,
      uncertainty_M=auxiliary.uncertainty_M,
      grants=ledger(self.problem.modules, auxiliary.granted_MR, auxiliary.score_MR),
    )

  def require_kept(self) -> None:
    """Refuses a schedule that may leave a part of the budget."""
    self.settings.require_spent(len(self.problem.modules), self.problem.steps)

  def timeline(self) -> list[tuple[int, int]]:
    """Growth at full speed."""
    return self.settings.timeline(len(self.problem.modules))


def _before_growth(modules: int, width: int) -> Growth:
  """One component in every module."""
  ages = lambda: jnp.zeros((modules, width), jnp.int32)
  return Growth(
    rank_M=jnp.ones(modules, jnp.int32),
    importance_M=jnp.zeros(modules),
    uncertainty_M=jnp.zeros(modules),
    age_MR=ages(),
    value_age_MR=ages(),
    granted_MR=jnp.full((modules, width), -1, jnp.int32).at[:, 0].set(0),
    score_MR=jnp.zeros((modules, width)),
  )


def _directions(triplet: Triplet) -> tuple[jax.Array, jax.Array]:
  return triplet.a_RI, triplet.b_RO


def build(settings: IncreLoRASettings, problem: Problem) -> Joint:
  """Binds settings to a problem.

  Raises:
    ValueError: if the budget does not fit the modules or the run.
  """
  check_rank(problem.shapes, settings.r_max, 'increlora.r_max')
  resolved = settings.resolve(len(problem.shapes), problem.steps)
  resolved.check(len(problem.shapes), problem.steps)
  return Joint(problem, IncreLoRA(problem, resolved))
