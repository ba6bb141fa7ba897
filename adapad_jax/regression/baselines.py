"""The baselines of parallel deflation, in the same harness.

All return the `Fit` of `fit`, with the same histories where a method has rounds:
sequential deflation (Hotelling 1933; compute schedules of arXiv:2505.22602), joint
gradient descent on the factors, and the exact solution by SVD.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapad_jax import linalg
from adapad_jax.lowrank import LowRank
from adapad_jax.regression import program, rounds
from adapad_jax.regression.convergence import SETTLED, share_moved, warn_unless
from adapad_jax.regression.estimates import Estimate, View, energies, moved
from adapad_jax.regression.fit import Fit, on_host, precision, sums
from adapad_jax.regression.frame import make_frame
from adapad_jax.regression.moments import Moments, einsum
from adapad_jax.regression.pca import Eigen
from adapad_jax.regression.solvers import Power, Solver


def exact_fit(
  x_NI: np.ndarray,
  y_NO: np.ndarray | None,
  rank: int,
  *,
  dtype: str = 'float32',
  ridge: float = 0.0,
) -> Fit:
  """Reduced-rank regression by one SVD of C S^{-1/2} (Izenman 1975).

  Args are those of `fit`. The history is one round in which nothing moves.

  Raises:
    ValueError: for data or settings that cannot be fitted.
  """
  moments = sums(x_NI, y_NO, rank, dtype, ridge)
  frame = make_frame(np.asarray(moments.s_II), dtype)
  k_OI = frame.whiten(np.asarray(moments.c_OI))
  u_OS, sigma_S, v_SI = np.linalg.svd(k_OI, full_matrices=False)
  short = max(rank - len(sigma_S), 0)
  pad = lambda x: np.pad(x[:rank], [(0, short)] + [(0, 0)] * (x.ndim - 1))
  a_RI = frame.restore(pad(sigma_S[:, None] * v_SI))
  left_R = 0.5 * (float(moments.yy) - np.cumsum(pad(np.square(sigma_S))))
  return Fit(
    a_RI=a_RI,
    b_RO=pad(u_OS.T).astype(dtype),
    objective_LR=left_R[None].astype(dtype),
    moved_LR=np.zeros((1, rank), dtype),
    mismatch_LR=None,
    active=rank,
    movement=0.0,
    converged=True,
  )


def compute_schedule(rounds_in_all: int, rank: int, slope: float) -> tuple[int, ...]:
  """Rounds for each component of sequential deflation: t_k ~ 1 + slope x_k.

  x_k falls evenly from +1 for the first to -1 for the last component; slope 0 gives
  all the same, and about 1.5 did best in arXiv:2505.22602. A slope above 1 makes
  the last t_k negative: every component gets at least one round here, and the sum
  is kept.

  Raises:
    ValueError: if there are fewer rounds than components.
  """
  if rank < 1 or rounds_in_all < rank:
    raise ValueError(
      f'{rounds_in_all} round(s) do not give each of {rank} component(s) one'
    )
  share_R = 1 + slope * (np.linspace(1, -1, rank) if rank > 1 else np.zeros(1))
  share_R = np.maximum(share_R, 0)
  extra_R = share_R / share_R.sum() * (rounds_in_all - rank)
  given_R = np.floor(extra_R).astype(int)
  short = rounds_in_all - rank - given_R.sum()
  given_R[np.argsort(given_R - extra_R, kind='stable')[:short]] += 1
  return tuple(int(t) for t in given_R + 1)


def sequential_fit(
  x_NI: np.ndarray,
  y_NO: np.ndarray | None,
  rounds_R: tuple[int, ...],
  *,
  local_steps: int = 1,
  solver: Solver | Eigen | None = None,
  dtype: str = 'float32',
  ridge: float = 0.0,
  seed: int = 0,
  measure_mismatch: bool = False,
) -> Fit:
  """Sequential deflation: one component after another, each frozen when its time is up.

  Args:
    x_NI: inputs, one example a row.
    y_NO: outputs; None for principal components.
    rounds_R: rounds that each component is given, see `compute_schedule`. A round
      trains one component here, and as many as there are workers in `fit`.
    local_steps: solver steps in a round.
    solver: local steps; `Power()` unless given.
    dtype: 'float32' or 'float64'.
    ridge: penalty on ||W||_F^2.
    seed: of the random start, which equals that of `fit`.
    measure_mismatch: see `fit`.

  Raises:
    ValueError: for data or settings that cannot be fitted, or a fit that diverged.
  """
  rank, solver = len(rounds_R), solver or Power()
  if min(rounds_R, default=0) < 1 or local_steps < 1:
    raise ValueError(
      f'rounds_R={rounds_R} and local_steps={local_steps} must be at least 1'
    )
  with precision(dtype):
    moments = sums(x_NI, y_NO, rank, dtype, ridge)
    objective, frame = program.place(moments, solver, dtype)
    exact = program.exact_in(objective, rank) if measure_mismatch else None
    yy = np.asarray(moments.yy).astype(dtype)
    reference = rounds.Reference(yy, exact=exact)
    start_RI = program.start_of(seed, rank, objective, solver, frame)
    turn_L = np.repeat(np.arange(rank), rounds_R)
    now, history = _in_turn(objective, reference, start_RI, turn_L, solver, local_steps)
    own = program.newest(objective, jax.tree.map(lambda x: x[None], now), solver, rank)
    found = on_host(own, history, rank, frame)
  # Every component in the last round that it was given.
  last_R = found.moved_LR[np.cumsum(rounds_R) - 1, np.arange(rank)]
  return _judged(found, last_R, float(yy), 'rounds_R')


def _judged(found: Fit, last_R: np.ndarray, yy: float, limit: str) -> Fit:
  """The fit with its `movement`; warns where that is not yet nothing.

  Args:
    found: the fit.
    last_R: how far every term moved when it moved last.
    yy: tr(Y Y^T).
    limit: what the caller calls the number of rounds.
  """
  movement = share_moved(last_R, yy)
  converged = movement <= SETTLED
  warn_unless(
    converged,
    rounds=len(found.moved_LR),
    movement=movement,
    tolerance=0.0,
    names=(limit, 'tolerance'),
    depth=2,
  )
  return dataclasses.replace(found, movement=movement, converged=converged)


@functools.partial(jax.jit, static_argnames=('solver', 'local_steps'))
def _in_turn(
  objective: Any,
  reference: rounds.Reference,
  start_RI: jax.Array,
  turn_L: jax.Array,
  solver: Any,
  local_steps: int,
) -> tuple[Estimate, rounds.History]:
  """Worker turn_L[l] trains in round l, and sees those before it."""
  state_R = solver.start(objective, start_RI)
  size = start_RI.shape[0]

  def body(l: jax.Array, carry: tuple) -> tuple:
    state_R, now, history = carry
    k = turn_L[l]
    before_1S = (jnp.arange(size) < k)[None].astype(start_RI.dtype)
    view = View(now, before_1S)
    own = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, k, 1), state_R)
    step = lambda _, state: solver.step(objective, view, state)
    own = jax.lax.fori_loop(0, local_steps, step, own)
    write = lambda x, row: jax.lax.dynamic_update_slice_in_dim(x, row, k, 0)
    state_R = jax.tree.map(write, state_R, own)
    news = jax.tree.map(write, now, own.message())
    visible_S = jnp.arange(size) <= k
    moved_S = moved(news, now)
    return state_R, news, rounds.record(history, l, reference, news, moved_S, visible_S)

  now = jax.tree.map(jnp.zeros_like, state_R.message())
  history = rounds.empty_history((turn_L.shape[0], size), reference)
  start = state_R, now, history
  return jax.lax.fori_loop(0, turn_L.shape[0], body, start)[1:]


def joint_fit(
  x_NI: np.ndarray,
  y_NO: np.ndarray | None,
  rank: int,
  tx: optax.GradientTransformation,
  *,
  rounds_in_all: int = 100,
  local_steps: int = 1,
  dtype: str = 'float32',
  ridge: float = 0.0,
  seed: int = 0,
  measure_mismatch: bool = False,
) -> Fit:
  """Gradient descent on all of B and A at once, min 1/2 ||Y - B A X||_F^2.

  The factors are known up to B T, T^-1 A only: what is recorded and returned is the
  same W as orthogonal terms by descending energy, so that prefixes compare.

  Args:
    x_NI: inputs, one example a row.
    y_NO: outputs; None for principal components.
    rank: rows of A.
    tx: the optimiser.
    rounds_in_all: how often the state is recorded.
    local_steps: optimiser steps between two records.
    dtype: 'float32' or 'float64'.
    ridge: penalty on ||W||_F^2.
    seed: of A's random start; B starts at zero.
    measure_mismatch: see `fit`.

  Raises:
    ValueError: for data or settings that cannot be fitted, or a fit that diverged.
  """
  if rounds_in_all < 1 or local_steps < 1:
    raise ValueError(
      f'rounds_in_all={rounds_in_all} and local_steps={local_steps} must be at least 1'
    )
  with precision(dtype):
    moments = sums(x_NI, y_NO, rank, dtype, ridge)
    moments = jax.tree.map(lambda x: np.asarray(x).astype(dtype), moments)
    exact = program.exact_in(moments, rank) if measure_mismatch else None
    reference = rounds.Reference(moments.yy, exact=exact)
    a_RI = program.draw_start(seed, rank, moments.s_II.shape[0]).astype(dtype)
    own = LowRank(a_RI, np.zeros((rank, moments.c_OI.shape[0]), dtype))
    steps = rounds_in_all, local_steps
    now, history = _jointly(moments, reference, own, tx, steps)
    found = on_host(LowRank(now.a_SI, now.b_SO), history, rank)
  return _judged(found, found.moved_LR[-1], float(moments.yy), 'rounds_in_all')


@functools.partial(jax.jit, static_argnames=('tx', 'steps'))
def _jointly(
  moments: Moments,
  reference: rounds.Reference,
  own: LowRank,
  tx: optax.GradientTransformation,
  steps: tuple[int, int],
) -> tuple[Estimate, rounds.History]:
  """steps = (rounds, steps in each)."""
  all_S = jnp.ones(own.a_RI.shape[0], bool)

  def step(_: Any, carry: tuple) -> tuple:
    own, opt = carry
    update, opt = tx.update(joint_gradient(moments, own), opt, own)
    return optax.apply_updates(own, update), opt

  def body(l: jax.Array, carry: tuple) -> tuple:
    own, opt, past, history = carry
    own, opt = jax.lax.fori_loop(0, steps[1], step, (own, opt))
    now = ordered(moments, own)
    moved_S = moved(now, past)
    history = rounds.record(history, l, reference, now, moved_S, all_S)
    return own, opt, now, history

  past = jax.tree.map(jnp.zeros_like, ordered(moments, own))
  history = rounds.empty_history((steps[0], all_S.shape[0]), reference)
  start = own, tx.init(own), past, history
  return jax.lax.fori_loop(0, steps[0], body, start)[2:]


def joint_gradient(moments: Moments, own: LowRank) -> LowRank:
  """The gradient of 1/2 ||Y - B A X||_F^2 without the (O, I) matrix B A."""
  a_RI, b_RO = own.a_RI, own.b_RO
  sa_RI = einsum('ri,ij->rj', a_RI, moments.s_II)
  gram_RR = einsum('ri,si->rs', a_RI, sa_RI)
  grad_b_RO = einsum('rs,so->ro', gram_RR, b_RO)
  grad_b_RO -= einsum('ri,oi->ro', a_RI, moments.c_OI)
  grad_a_RI = einsum('rs,si->ri', einsum('ro,so->rs', b_RO, b_RO), sa_RI)
  grad_a_RI -= einsum('ro,oi->ri', b_RO, moments.c_OI)
  return LowRank(grad_a_RI, grad_b_RO)


def ordered(moments: Moments, own: LowRank) -> Estimate:
  """The same sum of terms as singular terms of B A X, by descending energy.

  With B = Q K (QR) and the Gram matrix A S A^T = F F^T, the left singular vectors
  of B A X are Q times those of the small matrix K F.
  """
  a_RI, b_RO = own.a_RI, own.b_RO
  q_OQ, k_QR = linalg.qr(b_RO.T)
  sa_RI = einsum('ri,ij->rj', a_RI, moments.s_II)
  value_R, vector_RR = linalg.eigh(einsum('ri,si->rs', a_RI, sa_RI))
  root_RR = vector_RR * jnp.sqrt(jnp.maximum(value_R, 0))[None]
  left_QQ = linalg.svd(einsum('qr,rs->qs', k_QR, root_RR), full_matrices=True)[0]
  b_QO = einsum('oq,qp->po', q_OQ, left_QQ)
  mix_QR = einsum('po,ro->pr', b_QO, b_RO)
  short = b_RO.shape[0] - b_QO.shape[0]
  pad = lambda x: jnp.pad(x, ((0, short), (0, 0)))
  a_RI, sa_RI = pad(mix_QR @ a_RI), pad(mix_QR @ sa_RI)
  b_RO = pad(b_QO)
  now = Estimate(a_RI, b_RO, jnp.zeros_like(value_R), sa_RI)
  order_R = jnp.argsort(-energies(now), stable=True)
  now = jax.tree.map(lambda x: x[order_R], now)
  gain_R = jnp.sum(einsum('ri,oi->ro', now.a_SI, moments.c_OI) * now.b_SO, 1)
  return Estimate(now.a_SI, now.b_SO, gain_R, now.g_SI)
