"""AdaLoRA (arXiv:2303.10512): starts with too many components and prunes them.

Updates have the form s a^T diag(e) b with a regulariser for orthogonality. Every entry
w of a, b and e keeps moving averages of its sensitivity |w dL/dw| and of how much that
varies; a triplet's score is that of its value plus the means over its directions. The
budget falls from the start's to the target's on a cubic curve, and values of triplets
outside it are set to zero. They go on training, and may come back, until the final
phase, in which the choice is fixed.

As in the authors' code and in huggingface/peft, sensitivity takes the clipped gradient
of the whole loss, regulariser included, and the parameters after the step. Faults of
the originals that stay out are listed in docs/methods.md.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.lowrank import Delta, Deployed
from adapad_jax.lowrank.svd import by_singular_values
from adapad_jax.lowrank.update import check_rank
from adapad_jax.methods.joint import Joint, Rule, Tuned
from adapad_jax.methods.triplets import (
  Triplet,
  deltas_of,
  init_triplets,
  orthogonality,
)
from adapad_jax.problem import Problem
from adapad_jax.ranges import Fraction, Natural, NonNegative
from adapad_jax.settings import check


@dataclasses.dataclass(frozen=True)
class AdaLoRASettings:
  """Settings of AdaLoRA. A zero stands for what is derived.

  Attributes:
    budget: components over all modules in the end; 0 means twice their number.
    initial: components of every module at the start; 0 means half as many again as
      the budget has on average.
    start: steps before the budget falls; 0 means an eighth of the run.
    final: steps of the final phase; 0 means half of the run.
    interval: steps between cuts; 0 makes about 700 in a run.
    beta1, beta2: decay of the moving averages of sensitivity and variability; published
      constants.
    orthogonal: weight of the regulariser; the published scripts have 0.1, RTE and STS-B
      0.3.
  """

  budget: Natural = 0
  initial: Natural = 0
  start: Natural = 0
  final: Natural = 0
  interval: Natural = 0
  beta1: Fraction = 0.85
  beta2: Fraction = 0.85
  orthogonal: NonNegative = 0.1

  def __post_init__(self) -> None:
    check(self, 'adalora')

  def resolve(self, modules: int, steps: int) -> 'AdaLoRASettings':
    """Every zero filled in for so many modules and steps."""
    budget = self.budget or 2 * modules
    return dataclasses.replace(
      self,
      budget=budget,
      initial=self.initial or -(-3 * budget // (2 * modules)),
      start=self.start or steps // 8,
      final=self.final or steps // 2,
      interval=self.interval or max(steps // 700, 1),
    )

  def check(self, modules: int, steps: int) -> None:
    """Refuses a resolved schedule that cannot be kept.

    Raises:
      ValueError: naming the bound that is violated.
    """
    if self.budget > self.initial * modules:
      raise ValueError(
        f'adalora.budget {self.budget} exceeds adalora.initial x modules ='
        f' {self.initial} x {modules} = {self.initial * modules}; AdaLoRA only prunes'
      )
    if self.start + self.final >= steps:
      raise ValueError(
        f'adalora.start {self.start} and adalora.final {self.final} leave none of'
        f' {steps} steps for the budget to fall; shorten them or train longer'
      )

  def budgets(self, modules: int, steps: int) -> np.ndarray:
    """Budget at each step, (steps,): constant, cubic, constant."""
    first, t_T = self.initial * modules, np.arange(steps)
    left_T = 1 - (t_T - self.start) / (steps - self.final - self.start)
    falling_T = ((first - self.budget) * left_T**3 + self.budget).astype(int)
    late_T = np.where(t_T > steps - self.final, self.budget, falling_T)
    return np.where(t_T <= self.start, first, late_T)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Averages:
  """Moving averages of every entry, and the choice made last.

  Attributes:
    importance, spread: of sensitivity and its variability.
    kept_MR: whether a triplet survived the latest cut.
  """

  importance: dict[str, Triplet]
  spread: dict[str, Triplet]
  kept_MR: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class AdaLoRA(Rule):
  """The rule; see the module."""

  problem: Problem
  settings: AdaLoRASettings

  @property
  def capacity(self) -> int:
    """Components at the start."""
    return self.settings.initial

  def start(self, key: jax.Array) -> Tuned:
    """Random directions with zero values."""
    triplets = init_triplets(key, self.problem.shapes, self.capacity)
    zeros = lambda: jax.tree.map(jnp.zeros_like, triplets)
    kept_MR = jnp.ones((len(triplets), self.capacity), bool)
    moments = self.problem.optimizer.transform().init(triplets)
    return Tuned(triplets, moments, Averages(zeros(), zeros(), kept_MR))

  def forward(
    self,
    model: Any,
    variables: dict[str, Triplet],
    tuned: Tuned,
    step: jax.Array,
    rows: int,
  ) -> tuple[Any, dict[str, Delta]]:
    """All triplets; a cut shows as a zero value."""
    scale_MR = jnp.full(tuned.auxiliary.kept_MR.shape, self.problem.scale)
    return model, deltas_of(self.problem.modules, variables, scale_MR, rows)

  def update(self, tuned: Tuned, grads: Any, step: jax.Array) -> Tuned:
    """Regulariser, clipping, the step, sensitivities, and the cut if one is due."""
    optimizer, modules = self.problem.optimizer, self.problem.modules
    all_MR = jnp.ones(tuned.auxiliary.kept_MR.shape)
    penalty = lambda x: self.settings.orthogonal * orthogonality(modules, x, all_MR)
    pull = jax.grad(penalty)(tuned.params)
    grads = optimizer.clipped(jax.tree.map(jnp.add, grads, pull))
    rate = optimizer.rate_at(step, step, self.problem.steps)
    params, moments = optimizer.step(rate, tuned.params, grads, tuned.moments)
    auxiliary = self._observe(tuned.auxiliary, params, grads, step)
    params, auxiliary = self._cut(params, auxiliary, step)
    return Tuned(params, moments, auxiliary)

  def _observe(
    self, auxiliary: Averages, params: Any, grads: Any, step: jax.Array
  ) -> Averages:
    """Updates the averages, except in the final phase."""
    s = self.settings
    observing = step < self.problem.steps - s.final
    keep = lambda new, old: jnp.where(observing, new, old)
    now = jax.tree.map(lambda w, g: jnp.abs(w * g), params, grads)
    mean = jax.tree.map(
      lambda old, x: keep(s.beta1 * old + (1 - s.beta1) * x, old),
      auxiliary.importance,
      now,
    )
    spread = jax.tree.map(
      lambda old, x, m: keep(s.beta2 * old + (1 - s.beta2) * jnp.abs(x - m), old),
      auxiliary.spread,
      now,
      mean,
    )
    return Averages(mean, spread, auxiliary.kept_MR)

  def scores(self, auxiliary: Averages) -> jax.Array:
    """s(e_k) + mean_j s(a_kj) + mean_j s(b_kj), s being importance x spread; (M, R)."""
    s = jax.tree.map(jnp.multiply, auxiliary.importance, auxiliary.spread)
    one = lambda t: t.e_R + jnp.mean(t.a_RI, axis=1) + jnp.mean(t.b_RO, axis=1)
    return jnp.stack([one(s[name]) for name in self.problem.modules])

  def choose(self, auxiliary: Averages, budget: jax.Array | int) -> jax.Array:
    """Whether a triplet is among the `budget` best; ties go to the earlier one."""
    score_MR = self.scores(auxiliary)
    order = jnp.argsort(-score_MR.ravel(), stable=True)
    return (jnp.argsort(order) < budget).reshape(score_MR.shape)

  def _cut(
    self, params: Any, auxiliary: Averages, step: jax.Array
  ) -> tuple[Any, Averages]:
    s, steps = self.settings, self.problem.steps
    budget_T = jnp.asarray(s.budgets(len(self.problem.modules), steps))
    in_time = (step > s.start) & (step % s.interval == 0)
    due = in_time | (step >= steps - s.final)
    kept_MR = jnp.where(due, self.choose(auxiliary, budget_T[step]), auxiliary.kept_MR)
    cut = {
      name: dataclasses.replace(
        params[name], e_R=jnp.where(due & ~kept_MR[m], 0.0, params[name].e_R)
      )
      for m, name in enumerate(self.problem.modules)
    }
    return cut, dataclasses.replace(auxiliary, kept_MR=kept_MR)

  def ranks(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """Triplets that survived the latest cut."""
    return jnp.sum(tuned.auxiliary.kept_MR, axis=1)

  def deploy(self, tuned: Tuned, step: jax.Array, head: Any) -> Deployed:
    """What would be left if the final cut came now, in order of singular values."""
    kept_MR = self.choose(tuned.auxiliary, self.settings.budget)
    weight_MR = self.problem.scale * kept_MR
    modules = self.problem.modules
    components = {
      name: tuned.params[name].component(weight_MR[m]) for m, name in enumerate(modules)
    }
    rank_M1 = jnp.sum(kept_MR, axis=1, keepdims=True)
    active_MS = jnp.arange(self.capacity)[None] < rank_M1
    return Deployed(by_singular_values(components), active_MS.astype(jnp.float32), head)

  def timeline(self) -> list[tuple[int, int]]:
    """The budget whenever it falls, steps counted from one."""
    s, steps = self.settings, self.problem.steps
    budget_T = s.budgets(len(self.problem.modules), steps)
    events = [(0, int(budget_T[0]))]
    for t in range(s.start + 1, steps):
      due = t % s.interval == 0 or t >= steps - s.final
      if due and budget_T[t] < events[-1][1]:
        events.append((t + 1, int(budget_T[t])))
    return events


def build(settings: AdaLoRASettings, problem: Problem) -> Joint:
  """Binds settings to a problem.

  Raises:
    ValueError: if the budget or the phases do not fit the run.
  """
  modules = len(problem.shapes)
  resolved = settings.resolve(modules, problem.steps)
  resolved.check(modules, problem.steps)
  check_rank(problem.shapes, resolved.initial, 'adalora.initial')
  return Joint(problem, AdaLoRA(problem, resolved))
