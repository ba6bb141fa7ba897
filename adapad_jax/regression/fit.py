"""Fits from data on the host: checks, precision, and the way back."""

import contextlib
import dataclasses
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax import sharding
from adapad_jax.lowrank import LowRank
from adapad_jax.regression import program, rounds
from adapad_jax.regression.moments import (
  Moments,
  add_batch,
  add_ridge,
  are_finite,
  gather_moments,
)
from adapad_jax.regression.pca import Eigen
from adapad_jax.regression.schedule import Schedule, Traffic, perfect_traffic
from adapad_jax.regression.solvers import Power, Solver

DTYPES = ('float32', 'float64')
# Rows that are copied to the device, and cast, at a time.
ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Fit:
  """The outcome of a fit, in host memory.

  Attributes:
    a_RI: input directions, one a component.
    b_RO: output directions.
    objective_LR: see `rounds.History`; only the rounds that were run.
    moved_LR: likewise.
    mismatch_LR: likewise; None unless asked for.
    active: components that broadcast; those beyond are not part of the fit.
  """

  a_RI: np.ndarray
  b_RO: np.ndarray
  objective_LR: np.ndarray
  moved_LR: np.ndarray
  mismatch_LR: np.ndarray | None
  active: int

  def weight(self, rank: int | None = None) -> np.ndarray:
    """W = sum_k b_k a_k^T, (O, I), of the first `rank` active components."""
    rank = self.active if rank is None else min(rank, self.active)
    return self.b_RO[:rank].T @ self.a_RI[:rank]

  def predict(self, x_NI: np.ndarray, rank: int | None = None) -> np.ndarray:
    """The outputs (N, O) for inputs (N, I), without forming W."""
    rank = self.active if rank is None else min(rank, self.active)
    return (x_NI @ self.a_RI[:rank].T) @ self.b_RO[:rank]


def precision(dtype: str) -> contextlib.AbstractContextManager:
  """A context in which arrays of this dtype exist.

  JAX has float64 behind a global switch; it is on inside the context alone.

  Raises:
    ValueError: for a dtype other than float32 and float64.
  """
  if dtype not in DTYPES:
    raise ValueError(f'dtype={dtype!r} is not one of {DTYPES}')
  return jax.enable_x64(True) if dtype == 'float64' else contextlib.nullcontext()


def checked(
  x_NI: np.ndarray, y_NO: np.ndarray | None, rank: int
) -> tuple[np.ndarray, np.ndarray | None]:
  """The data as arrays, in a dtype that may still be another.

  Raises:
    ValueError: for a rank that is no number from one on, values that are no real
      numbers, or shapes that do not belong together.
  """
  x_NI = np.asarray(x_NI)
  same, y_NO = y_NO is None, x_NI if y_NO is None else np.asarray(y_NO)
  if not isinstance(rank, numbers.Integral) or rank < 1:
    raise ValueError(f'rank={rank!r} must be a whole number, at least 1')
  for name, z_NX in (('inputs', x_NI), ('outputs', y_NO)):
    if z_NX.dtype.kind not in 'fiubO':
      raise ValueError(f'the {name} hold {z_NX.dtype}, not real numbers')
  if x_NI.ndim != 2 or y_NO.ndim != 2 or x_NI.shape[0] != y_NO.shape[0]:
    raise ValueError(
      'expected inputs (n, d) and outputs (n, m) with one example a row, got'
      f' {x_NI.shape} and {y_NO.shape}'
    )
  if 0 in x_NI.shape + y_NO.shape:
    raise ValueError(f'no data: inputs {x_NI.shape}, outputs {y_NO.shape}')
  return x_NI, None if same else y_NO


def check_finite(moments: Moments) -> None:
  """Refuses sums that are not finite, which takes no second pass over the data.

  Raises:
    ValueError: if an input or an output was NaN or infinite, or too large to square.
  """
  finite = zip(('inputs', 'outputs'), jax.device_get(are_finite(moments)), strict=True)
  bad = [name for name, good in finite if not good]
  if bad:
    raise ValueError(
      f'the {" and the ".join(bad)} contain NaN, infinity or values whose squares'
      f' overflow {moments.s_II.dtype}; clean or rescale the data'
    )


def check_not_tiny(moments: Moments) -> None:
  """Refuses values whose squares are so small that rounding would take over.

  Raises:
    ValueError: if there are such, and not all are zero.
  """
  info = jnp.finfo(moments.yy.dtype)
  totals = jax.device_get((jnp.trace(moments.s_II), moments.yy))
  for name, total in zip(('inputs', 'outputs'), totals, strict=True):
    if 0 < total < float(info.tiny) / float(info.eps) ** 2:
      raise ValueError(
        f'the {name} are too small for {info.dtype}: their squares sum up to'
        f' {total:.1e}; rescale them'
      )


def sums(
  x_NI: np.ndarray,
  y_NO: np.ndarray | None,
  rank: int,
  dtype: str,
  ridge: float = 0.0,
  centre: bool = False,
) -> Moments:
  """The moments of checked data, in the context of `precision(dtype)`."""
  if not 0 <= ridge < np.inf:
    raise ValueError(f'ridge={ridge} must not be negative and must be finite')
  x_NI, y_NO = checked(x_NI, y_NO, rank)
  moments = None
  for start in range(0, len(x_NI), ROWS):
    rows = slice(start, start + ROWS)
    cast = lambda z_NX, rows=rows: z_NX[rows].astype(dtype, copy=False)
    batch = cast(x_NI), None if y_NO is None else cast(y_NO)
    if moments is None:
      moments = gather_moments(*batch, centre)
    else:
      moments = add_batch(moments, *batch, centre)
    # Dispatch would run ahead and copy all rows before the first are summed.
    jax.block_until_ready(moments)
  check_finite(moments)
  if not centre:  # the mean of constant data leaves rounding errors of any size
    check_not_tiny(moments)
  return add_ridge(moments, ridge) if ridge else moments


def fit(
  x_NI: np.ndarray,
  y_NO: np.ndarray | None,
  rank: int,
  *,
  solver: Solver | Eigen | None = None,
  schedule: Schedule | None = None,
  mesh: jax.sharding.Mesh | None = None,
  dtype: str = 'float32',
  ridge: float = 0.0,
  seed: int = 0,
  traffic: Traffic | None = None,
  measure_mismatch: bool = False,
) -> Fit:
  """Fits min_W 1/2 ||Y - W X||_F^2 + ridge/2 ||W||_F^2 at rank W <= rank.

  Each of `rank` workers owns one rank-one term, deflates by its predecessors as
  last broadcast, and improves its own for H local steps a round (arXiv:2605.10741).

  Args:
    x_NI: inputs, one example a row. Not centred here.
    y_NO: outputs; None for principal components, which fit the inputs to themselves.
    rank: number of components; those beyond the data's rank come out as zero.
    solver: local steps; `Power()` unless given. `Eigen` is for principal components
      and finds directions of length one.
    schedule: rounds, activation and when to stop.
    mesh: devices over which the workers are split; one device unless given.
    dtype: 'float32' or 'float64'.
    ridge: penalty on ||W||_F^2.
    seed: of the random start.
    traffic: lateness and absences of workers.
    measure_mismatch: whether to record ||Y_{k,l} - Y_k*||_F, for which the exact
      components are computed.

  Raises:
    ValueError: for data or settings that cannot be fitted.
  """
  if isinstance(solver, Eigen) and (y_NO is not None or ridge):
    raise ValueError(
      f'solver={solver} is for principal components: pass None as outputs and no ridge'
    )
  if schedule is not None and schedule.activation == 'above_noise':
    raise ValueError(
      "activation='above_noise' needs to know the noise: use `discover` instead"
    )
  with precision(dtype):
    moments = sums(x_NI, y_NO, rank, dtype, ridge)
    return fit_moments(
      moments, rank, solver, schedule, mesh, seed, traffic, measure_mismatch
    )


def fit_moments(
  moments: Moments,
  rank: int,
  solver: Any = None,
  schedule: Schedule | None = None,
  mesh: jax.sharding.Mesh | None = None,
  seed: int = 0,
  traffic: Traffic | None = None,
  measure_mismatch: bool = False,
  floor: float = 0.0,
) -> Fit:
  """`fit` from second moments, in whatever precision they have.

  The activation 'above_noise' reads `floor`, see `rounds.Yardstick`.
  """
  schedule = schedule or Schedule()
  plan = program.Plan(solver or Power(), schedule, rank, mesh or sharding.make_mesh())
  traffic = traffic or perfect_traffic(schedule.rounds, rank)
  if traffic.late_LR.shape != (schedule.rounds, rank):
    raise ValueError(
      f'traffic is for (rounds, workers) = {traffic.late_LR.shape}, the run has'
      f' {(schedule.rounds, rank)}'
    )
  yy, problem = moments.yy, program.prepare(moments, plan.solver)
  floor = np.asarray(floor, yy.dtype)
  del moments  # lets C and S go where the solver whitens
  exact = program.exact_in(problem, plan.workers) if measure_mismatch else None
  progress = program.begin(problem, seed, plan, traffic.bound + 1)
  yardstick = rounds.Yardstick(yy, floor, exact)
  progress, history = program.advance(problem, yardstick, traffic, progress, plan)
  return collect(plan, problem, progress, history)


def collect(
  plan: program.Plan, problem: Any, progress: rounds.Progress, history: rounds.History
) -> Fit:
  """Copies a finished run to the host."""
  own = program.newest(problem, progress.kept, plan.solver, plan.rank)
  return on_host(own, history, min(int(progress.sent_V[0]), plan.rank))


def on_host(own: LowRank, history: rounds.History, active: int) -> Fit:
  """Components and the rounds that were run, copied to the host."""
  own, history = sharding.fetch((own, history))
  done_L = ~np.isnan(history.moved_LR[:, 0])
  cut = lambda x_LR: None if x_LR is None else x_LR[done_L]
  return Fit(
    a_RI=own.a_RI,
    b_RO=own.b_RO,
    objective_LR=cut(history.objective_LR),
    moved_LR=cut(history.moved_LR),
    mismatch_LR=cut(history.mismatch_LR),
    active=active,
  )
