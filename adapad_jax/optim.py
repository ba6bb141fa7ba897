"""Optimisers whose rate follows each component's own age.

A component that starts late warms up afresh and then decays to zero at the common
end of training, so it does not inherit the rate to which its elders have decayed:

    rate(u, t) = peak min(1, (u + 1) / W) (T - t) / (T - (t - u) - W)

with u the component's own step count, t the global step, W the warm-up and T the
total. The restarted schedule is IncreLoRA's (arXiv:2308.12043); here it is data, so
a new component needs no new optimiser and no recompilation.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from adapad_jax.ranges import Fraction, NonNegative, OneOf, Positive, Range
from adapad_jax.settings import check

RULES: dict[str, Callable[..., optax.GradientTransformation]] = {
  'adam': lambda o: optax.scale_by_adam(o.beta1, o.beta2, o.eps),
  'lion': lambda o: optax.scale_by_lion(o.beta1, o.beta2),
  'sgd': lambda o: optax.trace(o.beta1) if o.beta1 else optax.identity(),
}
DECAYS = ('linear', 'cosine', 'constant')


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """An optax rule and its schedule.

  Attributes:
    rule: 'adam', 'lion' or 'sgd', with decoupled weight decay.
    learning_rate: the peak.
    warmup: steps of linear warm-up, counted from a component's first step; below one, a
      fraction of the run.
    decay: 'linear', 'cosine' or 'constant'.
    weight_decay: decoupled, multiplied by the rate.
    clip: largest global norm of one worker's gradient; 0 does not clip.
    beta1, beta2, eps: of the rule, for each those that optax has for Adam: Lion's own
      beta2 there is 0.99, and beta1 is the momentum of 'sgd'.
  """

  rule: Annotated[str, OneOf(RULES)] = 'adam'
  learning_rate: NonNegative = 1e-3
  warmup: Annotated[float, Range(least=0, most=1e9)] = 0.0
  decay: Annotated[str, OneOf(DECAYS)] = 'linear'
  weight_decay: NonNegative = 0.0
  clip: NonNegative = 1.0
  beta1: Fraction = 0.9
  beta2: Fraction = 0.999
  eps: Positive = 1e-8

  def __post_init__(self) -> None:
    check(self, 'optimizer')

  def resolve(self, steps: int) -> 'Optimizer':
    """The optimiser of a run of so many steps, its warm-up in steps."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(Optimizer)}
    share = self.warmup if self.warmup >= 1 else self.warmup * steps
    return Optimizer(**fields | {'warmup': round(share)})

  def at_rate(self, rate: Any) -> 'Optimizer':
    """The same with another peak rate, which may be traced and then is not checked."""
    other = copy.copy(self)
    object.__setattr__(other, 'learning_rate', rate)
    return other

  def transform(self) -> optax.GradientTransformation:
    """The direction of a step, without its rate."""
    decay = optax.add_decayed_weights(self.weight_decay)
    return optax.chain(RULES[self.rule](self), decay)

  def rate_at(self, age: jax.Array, step: jax.Array, total: int) -> jax.Array:
    """Rate of parameters that have taken `age` steps, at global `step` of `total`."""
    age = age.astype(jnp.float32)
    warm = jnp.minimum(1.0, (age + 1) / max(self.warmup, 1))
    if self.decay == 'constant':
      return self.learning_rate * warm
    span = jnp.maximum(total - (step - age) - self.warmup, 1.0)
    left = jnp.clip((total - step) / span, 0.0, 1.0)
    if self.decay == 'cosine':
      left = 0.5 * (1 - jnp.cos(jnp.pi * left))
    return self.learning_rate * warm * left

  def clipped(self, grads: Any) -> Any:
    """One worker's whole gradient, all leaves together, cut to the largest norm."""
    if not self.clip:
      return grads
    clipper = optax.clip_by_global_norm(self.clip)
    return clipper.update(grads, clipper.init(grads))[0]

  def step(
    self,
    rate: jax.Array,
    params: Any,
    grads: Any,
    moments: Any,
    gate: Any = None,
    factors: Any = None,
  ) -> tuple[Any, Any]:
    """One step of a whole tree; returns (params, moments).

    Args:
      rate: of all of it.
      params, grads, moments: trees; gradients are taken as they are.
      gate: where it is false, nothing changes; None: it is always true.
      factors: what the rate of each leaf is multiplied by, a tree of numbers; None: 1.
    """
    gate = jnp.ones((), bool) if gate is None else gate
    updates, new_moments = self.transform().update(grads, moments, params)
    keep = lambda new, old: jnp.where(gate, new, old)
    if factors is not None:
      updates = jax.tree.map(jnp.multiply, factors, updates)
    new_params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
    return (
      jax.tree.map(keep, new_params, params),
      jax.tree.map(keep, new_moments, moments),
    )


def step_stacks(
  modules: tuple[str, ...],
  optimizer: Optimizer,
  gate_MR: jax.Array,
  rate_MR: jax.Array,
  params: dict[str, Any],
  grads: dict[str, Any],
  moments: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
  """One step of stacks (R, ...), each row by its own moments, rate and gate."""
  rows = jax.vmap(optimizer.step)
  stepped = {
    name: rows(rate_MR[m], params[name], grads[name], moments[name], gate_MR[m])
    for m, name in enumerate(modules)
  }
  return (
    {name: pair[0] for name, pair in stepped.items()},
    {name: pair[1] for name, pair in stepped.items()},
  )
