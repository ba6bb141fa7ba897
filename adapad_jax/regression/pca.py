"""Principal components by the same rounds: parallel deflation and EigenGame.

Y = X makes W = sum_k v_k v_k^T with unit v_k, C = S and one product with S a step.
Every rule moves v_k by a direction that keeps it off its predecessors:

    power, hebb   (S - sum_j (v_j^T S v_j) v_j v_j^T) v_k     (arXiv:2502.17615)
    mu            S v_k - sum_j (v_k^T S v_j) v_j             (arXiv:2102.04152)
    alpha         S v_k - sum_j (v_k^T S v_j) / (v_j^T S v_j) S v_j
                                                              (arXiv:2010.00554)

`power` takes the direction itself for the next v_k, the others step along it. What of
it lies along predecessors, by their errors alone once they stand still, is taken off:
where they leave less than that unexplained, v_k would be one of them again.
"""

import dataclasses
import difflib

import jax
import jax.numpy as jnp

from adapad_jax.lowrank import LowRank
from adapad_jax.regression.estimates import Estimate, View
from adapad_jax.regression.moments import Moments, einsum, times
from adapad_jax.regression.solvers import Objective, unit

RULES = ('power', 'hebb', 'mu', 'alpha')
# What is rounding, in units of the trace of S and of the dtype's epsilon.
_ROUNDING = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Directions:
  """One device's workers: unit vectors v, the products S v, and where v began."""

  v_rI: jax.Array
  sv_rI: jax.Array
  drawn_rI: jax.Array

  def message(self) -> Estimate:
    """What the workers broadcast: the projectors v v^T as terms b a^T."""
    gain_r = jnp.sum(self.v_rI * self.sv_rI, 1)
    return Estimate(self.v_rI, self.v_rI, gain_r, self.sv_rI)


def _place(objective: Objective, v_rI: jax.Array, drawn_rI: jax.Array) -> Directions:
  """Unit vectors with their products."""
  v_rI = unit(v_rI)
  return Directions(v_rI, times(objective.s_II, v_rI), drawn_rI)


def _rounding(objective: Objective) -> jax.Array:
  """The length up to which a product with S may be rounding alone."""
  s_II = objective.s_II
  return _ROUNDING * jnp.finfo(s_II.dtype).eps * jnp.trace(s_II)


def _apart(
  objective: Objective, view: View, toward_rI: jax.Array, drawn_rI: jax.Array
) -> jax.Array:
  """Directions without what lies along predecessors; where nothing is left, drawn ones.

  So where the data have no variance any more, directions are at right angles to those
  before them, and stand still. To take off twice is enough for that, and tells whether
  anything was left (Giraud, Langou & Rozloznik 2005).
  """
  a_SI = view.seen.a_SI

  def size(x_rI: jax.Array) -> jax.Array:
    # Along the unit vector: squares of small float32 rows would underflow.
    return jnp.sum(x_rI * unit(x_rI), 1, keepdims=True)

  def off(x_rI: jax.Array) -> jax.Array:
    along_rT = einsum('ri,ti->rt', x_rI, a_SI) * view.sees_rT
    return x_rI - einsum('rt,ti->ri', along_rT, a_SI)

  once_rI = off(toward_rI)
  twice_rI = off(unit(once_rI))
  is_left_r1 = (size(once_rI) > _rounding(objective)) & (size(twice_rI) > 0.5)
  return jax.lax.cond(
    is_left_r1.all(),
    lambda: twice_rI,
    lambda: jnp.where(is_left_r1, twice_rI, off(unit(off(drawn_rI)))),
  )


@dataclasses.dataclass(frozen=True)
class Eigen:
  """A local solver for principal components, in the place of those of `solvers`.

  Attributes:
    rule: 'power', 'hebb', 'mu' or 'alpha', see above.
    learning_rate: step length of all but 'power', in units of 1 / (the trace of S).

  Raises:
    ValueError: for an unknown rule, or a rate that the rule needs or cannot use.
  """

  rule: str = 'power'
  learning_rate: float | None = None
  white = False  # The directions found are orthogonal as the inputs are given.

  def __post_init__(self) -> None:
    if self.rule not in RULES:
      close = difflib.get_close_matches(self.rule, RULES)
      hint = f'; did you mean {close[0]!r}?' if close else ''
      raise ValueError(f'rule={self.rule!r} is not one of {RULES}{hint}')
    if (self.learning_rate is None) != (self.rule == 'power'):
      raise ValueError(
        f'learning_rate={self.learning_rate} with rule={self.rule!r}: every rule but'
        ' "power" needs one'
      )

  def prepare(self, moments: Moments) -> Objective:
    """S alone, which C repeats."""
    return Objective(moments.s_II, moments.s_II)

  def start(self, objective: Objective, a_rI: jax.Array) -> Directions:
    """The state at given directions, scaled to length one."""
    return _place(objective, a_rI, a_rI)

  def step(self, objective: Objective, view: View, state: Directions) -> Directions:
    """One step of every worker."""
    v_rI, drawn_rI = state.v_rI, state.drawn_rI
    toward_rI = self._direction(view, state)
    if self.rule == 'power':
      return _place(objective, _apart(objective, view, toward_rI, drawn_rI), drawn_rI)
    if self.rule in ('mu', 'alpha'):  # along the sphere
      toward_rI -= jnp.sum(toward_rI * v_rI, 1, keepdims=True) * v_rI
    rate = self.learning_rate / jnp.trace(objective.s_II)
    return _place(objective, v_rI + rate * toward_rI, drawn_rI)

  def _direction(self, view: View, state: Directions) -> jax.Array:
    seen = view.seen
    if self.rule == 'mu':
      return state.sv_rI - view.explained_outputs(state.v_rI)
    if self.rule == 'alpha':
      gain_T = jnp.where(seen.gain_S > 0, seen.gain_S, 1)
      gram_rT = einsum('ri,ti->rt', state.v_rI, seen.sa_SI) * view.sees_rT
      return state.sv_rI - einsum('rt,ti->ri', gram_rT / gain_T[None], seen.sa_SI)
    gram_rT = einsum('ri,ti->rt', state.v_rI, seen.a_SI) * view.sees_rT
    return state.sv_rI - einsum('rt,ti->ri', gram_rT * seen.gain_S[None], seen.a_SI)

  def component(self, objective: Objective, now: Estimate) -> LowRank:
    """The directions, for W = sum_k v_k v_k^T over those with variance."""
    has_gain_S = now.gain_S > _rounding(objective)
    return LowRank(now.a_SI, now.b_SO * has_gain_S[:, None])
