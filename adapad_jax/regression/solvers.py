"""Local solvers: how a worker improves its rank-one term against its target.

All of them see the target Y_k = Y - sum_{j<k} b_j a_j^T X through

    D_k = C - sum_{j<k} b_j (S a_j)^T

applied to a vector: D_k a takes one product with C and one masked (r, R) Gram
matrix, and no step ever forms D_k or the outer products. A solver carries h = C a
and g = S a from step to step, so a step costs three products with large matrices
(two where the inputs are white), and what it broadcasts costs none.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapad_jax.lowrank import LowRank
from adapad_jax.regression.estimates import Estimate, View
from adapad_jax.regression.frame import Frame
from adapad_jax.regression.moments import Moments, Whitener, times, whitener


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Objective:
  """Moments in the coordinates of a solver.

  Attributes:
    c_OI: C, or C T where the inputs are whitened by T, T T^T = S^+.
    s_II: S, or None where the inputs are white.
    back_IO: what takes b to inputs: C^T, (C T)^T or, for `Alternating`, S^+ C^T.
      Stored for the sake of `times`, which wants contiguous rows.
    whitener: what made the inputs white, for solvers that do.
    size: ||C T||_F, against which `Alternating` and `Power` tell what is rounding.
  """

  c_OI: jax.Array
  s_II: jax.Array | None = None
  back_IO: jax.Array | None = None
  whitener: Whitener | None = None
  size: jax.Array | None = None


# What is rounding, in units of ||C T||_F and of the dtype's epsilon.
_ROUNDING = 8


def white_objective(k_OI: jax.Array) -> Objective:
  """The problem in the inputs of a `Frame`, K = C T."""
  return Objective(k_OI, back_IO=k_OI.T, size=jnp.linalg.norm(k_OI))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
  """One device's workers between steps.

  Attributes:
    a_rI: input directions.
    b_rO: output directions.
    h_rO: C a.
    g_rI: S a; None where the inputs are white.
    opt: optimiser state, a leading worker axis on every leaf.
  """

  a_rI: jax.Array
  b_rO: jax.Array
  h_rO: jax.Array
  g_rI: jax.Array | None = None
  opt: Any = None

  def message(self) -> Estimate:
    """What the workers broadcast."""
    gain_r = jnp.sum(self.b_rO * self.h_rO, 1)
    return Estimate(self.a_rI, self.b_rO, gain_r, self.g_rI)


def _place(objective: Objective, a_rI: jax.Array, b_rO: jax.Array, opt: Any) -> State:
  """A state with the products of its inputs."""
  h_rO = times(objective.c_OI, a_rI)
  g_rI = objective.s_II
  if g_rI is not None:
    g_rI = times(objective.s_II, a_rI)
  return State(a_rI, b_rO, h_rO, g_rI, opt)


def _begin(objective: Objective, a_rI: jax.Array) -> State:
  """Given a and zero b."""
  b_rO = jnp.zeros((a_rI.shape[0], objective.c_OI.shape[0]), a_rI.dtype)
  return _place(objective, a_rI, b_rO, None)


def unit(x_rX: jax.Array) -> jax.Array:
  """Rows of length one; a zero row stays zero."""
  # Scaling by the largest entry first keeps tiny float32 rows from underflowing.
  top_r1 = jnp.max(jnp.abs(x_rX), 1, keepdims=True)
  x_rX = x_rX / jnp.where(top_r1 > 0, top_r1, 1)
  norm_r1 = jnp.sqrt(jnp.sum(jnp.square(x_rX), 1, keepdims=True))
  return x_rX / jnp.where(norm_r1 > 0, norm_r1, 1)


@dataclasses.dataclass(frozen=True)
class Gradient:
  """Gradient steps on a and b by any optax optimiser.

  grad_b = -D_k a + b (a^T S a),  grad_a = -D_k^T b + S a (b^T b).

  Attributes:
    tx: the optimiser; every worker has its own state.
  """

  tx: optax.GradientTransformation
  # Whether a `Frame` may change the coordinates of the inputs: not here, where the
  # path of the steps depends on them.
  white = False

  def prepare(self, moments: Moments) -> Objective:
    """C, C^T and S."""
    return Objective(moments.c_OI, moments.s_II, moments.c_OI.T)

  def start(self, objective: Objective, a_rI: jax.Array) -> State:
    """The state at given inputs."""
    state = _begin(objective, a_rI)
    opt = jax.vmap(self.tx.init)(LowRank(state.a_rI, state.b_rO))
    return dataclasses.replace(state, opt=opt)

  def step(self, objective: Objective, view: View, state: State) -> State:
    """One optimiser step on (a, b) at once."""
    a_rI, b_rO = state.a_rI, state.b_rO
    energy_r1 = jnp.sum(a_rI * state.g_rI, 1, keepdims=True)
    square_r1 = jnp.sum(jnp.square(b_rO), 1, keepdims=True)
    target_O = state.h_rO - view.explained_outputs(a_rI)
    target_I = times(objective.back_IO, b_rO)
    target_I -= view.explained_inputs(b_rO, view.seen.sa_SI)
    grad = LowRank(
      a_RI=state.g_rI * square_r1 - target_I, b_RO=b_rO * energy_r1 - target_O
    )
    own = LowRank(a_rI, b_rO)
    update, opt = jax.vmap(self.tx.update)(grad, state.opt, own)
    own = optax.apply_updates(own, update)
    return _place(objective, own.a_RI, own.b_RO, opt)

  def rebase(self, objective: Objective, state: State) -> State:
    """The same components on changed data."""
    return _place(objective, state.a_rI, state.b_rO, state.opt)

  def component(self, objective: Objective, now: Estimate) -> LowRank:
    """The estimate in original coordinates."""
    del objective
    return LowRank(now.a_SI, now.b_SO)


def _alternate(objective: Objective, view: View, state: State) -> State:
  """Best b for a, then best a for b; a term that is rounding alone gets a zero b.

  Where predecessors leave nothing, the length one of b would make a term of any
  rounding, and those behind it would take the rounding of all. Its a goes on, so that
  the component comes back once there is something left.
  """
  b_rO = unit(state.h_rO - view.explained_outputs(state.a_rI))
  a_rI = times(objective.back_IO, b_rO)
  a_rI -= view.explained_inputs(b_rO, view.seen.a_SI)
  # A zero a would stay zero whatever data came.
  is_zero_r1 = jnp.all(a_rI == 0, 1, keepdims=True)
  state = _place(objective, jnp.where(is_zero_r1, state.a_rI, a_rI), b_rO, None)
  sa_rI = state.a_rI if state.g_rI is None else state.g_rI
  energy_r1 = jnp.sum(state.a_rI * sa_rI, 1, keepdims=True)
  least = _ROUNDING * jnp.finfo(a_rI.dtype).eps * objective.size
  is_rounding_r1 = is_zero_r1 | (energy_r1 <= jnp.square(least))
  return dataclasses.replace(state, b_rO=jnp.where(is_rounding_r1, 0, b_rO))


def _nonzero(a_RI: jax.Array, b_RO: jax.Array) -> LowRank:
  """Terms b a^T, of which a zero b makes a zero a as well."""
  return LowRank(jnp.where(jnp.any(b_RO != 0, 1, keepdims=True), a_RI, 0), b_RO)


@dataclasses.dataclass(frozen=True)
class Alternating:
  """Alternating least squares: b the unit vector along D_k a, then a = S^+ D_k^T b.

  S^+ C^T is formed once, so a step takes no solve. Scaling b to length one in
  between leaves the term b a^T as it is and cannot overflow. The steps are the same
  in all coordinates of the inputs, and in white ones those of `Power`.
  """

  white = True

  def draw(self, frame: Frame, start_RI: np.ndarray) -> np.ndarray:
    """A random start, drawn for the inputs as they are given."""
    return frame.enter(start_RI)

  def prepare(self, moments: Moments) -> Objective:
    """C, S and S^+ C^T."""
    white = whitener(moments.s_II)
    best_OI = white.restore(white.whiten(moments.c_OI))
    size = jnp.sqrt(jnp.sum(moments.c_OI * best_OI))
    return Objective(moments.c_OI, moments.s_II, best_OI.T, size=size)

  def start(self, objective: Objective, a_rI: jax.Array) -> State:
    """The state at given inputs."""
    return _begin(objective, a_rI)

  def step(self, objective: Objective, view: View, state: State) -> State:
    """Best b for a, then best a for b."""
    return _alternate(objective, view, state)

  def rebase(self, objective: Objective, state: State) -> State:
    """The same components on changed data."""
    return _place(objective, state.a_rI, state.b_rO, state.opt)

  def component(self, objective: Objective, now: Estimate) -> LowRank:
    """The estimate in original coordinates."""
    del objective
    return _nonzero(now.a_SI, now.b_SO)


@dataclasses.dataclass(frozen=True)
class Power:
  """Power iteration on D_k S^+ D_k^T: the alternating steps in white inputs.

  With T T^T = S^+ and a = T w the problem in w has S = 1 and C T for C, and a step
  takes two large products where `Alternating` takes three. The iterates agree.
  """

  white = True

  def draw(self, frame: Frame, start_RI: np.ndarray) -> np.ndarray:
    """A random start, drawn in white inputs."""
    del frame
    return start_RI

  def prepare(self, moments: Moments) -> Objective:
    """C T, its transpose and T."""
    white = whitener(moments.s_II)
    k_OI = white.whiten(moments.c_OI)
    return dataclasses.replace(white_objective(k_OI), whitener=white)

  def start(self, objective: Objective, a_rI: jax.Array) -> State:
    """The state at given inputs."""
    return _begin(objective, a_rI)

  def step(self, objective: Objective, view: View, state: State) -> State:
    """One multiplication by D_k S^+ D_k^T, split in two."""
    return _alternate(objective, view, state)

  def component(self, objective: Objective, now: Estimate) -> LowRank:
    """The estimate in the coordinates of the moments."""
    if objective.whitener is None:
      return _nonzero(now.a_SI, now.b_SO)
    return _nonzero(objective.whitener.restore(now.a_SI), now.b_SO)


Solver = Gradient | Alternating | Power
