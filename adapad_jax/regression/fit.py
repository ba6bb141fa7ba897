"""Fits from data on the host: checks, precision, and the way back."""

import contextlib
import dataclasses
from typing import Any

import jax
import numpy as np

from adapad_jax import sharding
from adapad_jax.lowrank import LowRank
from adapad_jax.regression import program, rounds
from adapad_jax.regression.checks import (
  check_count,
  check_finite,
  check_not_tiny,
  checked,
)
from adapad_jax.regression.convergence import limit_of, share_moved, warn_unless
from adapad_jax.regression.frame import Frame, reciprocal_condition
from adapad_jax.regression.moments import (
  Moments,
  add_batch,
  add_ridge,
  gather_less,
  uncentred,
)
from adapad_jax.regression.pca import Eigen
from adapad_jax.regression.schedule import Schedule, Traffic, perfect_traffic
from adapad_jax.regression.solvers import Power, Solver

DTYPES = ('float32', 'float64')
# Rows that are copied to the device, and cast, at a time.
ROWS = 1024
# Sums of float32 products are off by about 1e-6 of what the scaled inputs weigh, which
# less than this reciprocal condition would make 1e-2 of the fitted outputs.
_WELL_CONDITIONED = 1e-4


@dataclasses.dataclass(frozen=True)
class Fit:
  """The outcome of a fit, in host memory.

  Attributes:
    a_RI: input directions, one a component; in float64 where a `Frame` was left, for
      those of ill-conditioned inputs have digits that float32 lacks.
    b_RO: output directions, in the dtype of the fit.
    objective_LR: see `rounds.History`; only the rounds that were run.
    moved_LR: likewise.
    mismatch_LR: likewise; None unless asked for.
    active: components that broadcast; those beyond are not part of the fit.
    movement: the farthest that a term b_k a_k^T X moved in the last round, as a share
      of ||Y||_F.
    converged: whether that was within the schedule's tolerance, or within
      `convergence.SETTLED` where it has none, and no component had yet to join. False
      means that the limit of rounds ended the fit.
  """

  a_RI: np.ndarray
  b_RO: np.ndarray
  objective_LR: np.ndarray
  moved_LR: np.ndarray
  mismatch_LR: np.ndarray | None
  active: int
  movement: float
  converged: bool

  def weight(self, rank: int | None = None) -> np.ndarray:
    """W = sum_k b_k a_k^T, (O, I), of the first `rank` active components.

    Raises:
      ValueError: for a rank that is no number from zero on.
    """
    rank = self._kept(rank)
    return self.b_RO[:rank].T @ self.a_RI[:rank]

  def predict(self, x_NI: np.ndarray, rank: int | None = None) -> np.ndarray:
    """The outputs (N, O) for inputs (N, I), without forming W.

    Raises:
      ValueError: for a rank that is no number from zero on.
    """
    x_NI, rank = np.asarray(x_NI), self._kept(rank)
    y_NO = latent(x_NI, self.a_RI[:rank]) @ self.b_RO[:rank]
    return y_NO.astype(np.result_type(x_NI, self.b_RO))

  def _kept(self, rank: int | None) -> int:
    """Active components of those asked for."""
    if rank is None:
      return self.active
    check_count('rank', rank, least=0)
    return min(rank, self.active)


def latent(x_NI: np.ndarray, a_RI: np.ndarray) -> np.ndarray:
  """a_k^T x of every row, (N, R), in float64: the terms of the sum may cancel."""
  x_NI, a_IR = np.asarray(x_NI), np.asarray(a_RI, np.float64).T
  scores_NR = np.empty((len(x_NI), a_IR.shape[1]))
  for start in range(0, len(x_NI), ROWS):
    rows = slice(start, start + ROWS)
    scores_NR[rows] = x_NI[rows].astype(np.float64) @ a_IR
  return scores_NR


def precision(dtype: str) -> contextlib.AbstractContextManager:
  """A context in which arrays of this dtype exist.

  JAX has float64 behind a global switch; it is on inside the context alone.

  Raises:
    ValueError: for a dtype other than float32 and float64.
  """
  if dtype not in DTYPES:
    raise ValueError(f'dtype={dtype!r} is not one of {DTYPES}')
  return jax.enable_x64(True) if dtype == 'float64' else contextlib.nullcontext()


def sums(
  x_NI: np.ndarray,
  y_NO: np.ndarray | None,
  rank: int,
  dtype: str,
  ridge: float = 0.0,
  centre: bool = False,
) -> Moments:
  """The moments of data, checked, rounded to `dtype` and summed; in float64.

  Products are summed after the means are subtracted, in float32 where that is the
  dtype and the inputs turn out to be conditioned well enough for it, else in float64.
  Unless `centre` is asked for, the means are added back.

  Raises:
    ValueError: for data or a ridge that cannot be fitted.
  """
  if not 0 <= ridge < np.inf:
    raise ValueError(f'ridge={ridge} must not be negative and must be finite')
  x_NI, y_NO = checked(x_NI, y_NO, rank)
  with precision('float64'):
    moments = _summed(x_NI, y_NO, dtype, dtype)
    check_finite(moments, dtype)
    condition = reciprocal_condition(np.asarray(moments.s_II))
    if dtype != 'float64' and condition < _WELL_CONDITIONED:
      moments = _summed(x_NI, y_NO, dtype, 'float64')
    whole = uncentred(moments)
    # Not the centred ones: of constant data they hold rounding errors of any size.
    check_not_tiny(whole, x_NI, y_NO, dtype)
    if not centre:
      moments = whole
      check_finite(moments, dtype)
    return add_ridge(moments, ridge) if ridge else moments


def _summed(
  x_NI: np.ndarray, y_NO: np.ndarray | None, dtype: str, sum_dtype: str
) -> Moments:
  """The centred moments of data, rounded, summed in another dtype; in float64."""
  cast = lambda z_NX, rows: (
    z_NX[rows].astype(dtype, copy=False).astype(sum_dtype, copy=False)
  )
  far = tuple(
    _shift(cast(z_NX, slice(ROWS))) for z_NX in (x_NI, x_NI if y_NO is None else y_NO)
  )
  shifts = tuple(_in_two(shift_X, sum_dtype) for shift_X in far)
  moments = None
  for start in range(0, len(x_NI), ROWS):
    rows = slice(start, start + ROWS)
    batch = cast(x_NI, rows), None if y_NO is None else cast(y_NO, rows)
    if moments is None:
      moments = gather_less(*batch, shifts)
    else:
      moments = add_batch(moments, *batch, shifts)
    # Dispatch would run ahead and copy all rows before the first are summed.
    jax.block_until_ready(moments)
  moments = jax.tree.map(lambda x: x.astype(np.float64), moments)
  return dataclasses.replace(
    moments, mean_I=moments.mean_I + far[0], mean_O=moments.mean_O + far[1]
  )


def _shift(z_NX: np.ndarray) -> np.ndarray:
  """The mean of some rows in float64; what is not finite is refused later."""
  with np.errstate(invalid='ignore', over='ignore'):
    return z_NX.mean(0, dtype=np.float64)


def _in_two(shift_X: np.ndarray, dtype: str) -> np.ndarray:
  """Values as two numbers of a dtype whose sum has more digits than one."""
  with np.errstate(invalid='ignore', over='ignore'):
    high_X = shift_X.astype(dtype)
    return np.stack([high_X, (shift_X - high_X).astype(dtype)])


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
    ValueError: for data or settings that cannot be fitted, or a fit that diverged.

  Warns:
    sklearn.exceptions.ConvergenceWarning: if the limit of rounds ended the fit, see
      `Fit.converged`.
  """
  if isinstance(solver, Eigen) and (y_NO is not None or ridge):
    raise ValueError(
      f'solver={solver} is for principal components: pass None as outputs and no ridge'
    )
  if schedule is not None and schedule.activation == 'above_noise':
    raise ValueError(
      "activation='above_noise' needs to know the noise: use `discover` instead"
    )
  schedule = schedule or Schedule()
  with precision(dtype):
    moments = sums(x_NI, y_NO, rank, dtype, ridge)
    found = fit_moments(
      moments, rank, solver, schedule, mesh, seed, traffic, measure_mismatch,
      dtype=dtype,
    )  # fmt: skip
  warn_unless(
    found.converged,
    rounds=len(found.moved_LR),
    movement=found.movement,
    tolerance=schedule.tolerance,
  )
  return found


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
  dtype: str | None = None,
) -> Fit:
  """`fit` from second moments, whose rounds run in `dtype`, or else in theirs.

  The activation 'above_noise' reads `floor`, see `rounds.Reference`. Warns of nothing.
  """
  dtype = dtype or moments.yy.dtype.name
  schedule = schedule or Schedule()
  spec = program.ProgramSpec(
    solver or Power(), schedule, rank, mesh or sharding.make_mesh()
  )
  traffic = traffic or perfect_traffic(schedule.rounds, rank)
  if traffic.late_LR.shape != (schedule.rounds, rank):
    raise ValueError(
      f'traffic is for (rounds, workers) = {traffic.late_LR.shape}, the run has'
      f' {(schedule.rounds, rank)}'
    )
  yy = np.asarray(moments.yy).astype(dtype)
  objective, frame = program.place(moments, spec.solver, dtype)
  del moments  # lets C and S go where the solver whitens
  exact = program.exact_in(objective, spec.workers) if measure_mismatch else None
  carry = program.begin(objective, seed, spec, traffic.bound + 1, frame)
  reference = rounds.Reference(yy, np.asarray(floor, dtype), exact)
  carry, history = program.advance(objective, reference, traffic, carry, spec)
  return collect(spec, (objective, frame), carry, history, yy)


def collect(
  spec: program.ProgramSpec,
  placed: tuple[Any, Frame | None],
  carry: rounds.Carry,
  history: rounds.History,
  yy: np.ndarray,
) -> Fit:
  """Copies a finished run to the host, and judges whether it had converged."""
  objective, frame = placed
  own = program.newest(objective, carry.kept, spec.solver, spec.rank)
  active = min(int(carry.sent_V[0]), spec.rank)
  found = on_host(own, history, active, frame)
  # The next in line counts too, as in `rounds.run`: it may be about to join.
  movement = share_moved(found.moved_LR[-1, : active + 1], float(yy))
  settled = movement <= limit_of(spec.schedule.tolerance)
  return dataclasses.replace(
    found, movement=movement, converged=settled and int(carry.active) == active
  )


def on_host(
  own: LowRank, history: rounds.History, active: int, frame: Frame | None = None
) -> Fit:
  """Components and the rounds that were run, copied to the host.

  Raises:
    ValueError: if the fit diverged.
  """
  own, history = sharding.fetch((own, history))
  _check_not_diverged(own, history)
  a_RI = own.a_RI if frame is None else frame.restore(own.a_RI)
  done_L = ~np.isnan(history.moved_LR[:, 0])
  cut = lambda x_LR: None if x_LR is None else x_LR[done_L]
  return Fit(
    a_RI=a_RI,
    b_RO=own.b_RO,
    objective_LR=cut(history.objective_LR),
    moved_LR=cut(history.moved_LR),
    mismatch_LR=cut(history.mismatch_LR),
    active=active,
    movement=0.0,
    converged=True,
  )


def _check_not_diverged(own: LowRank, history: rounds.History) -> None:
  """Refuses a fit whose numbers have left what the dtype holds.

  Raises:
    ValueError: if so.
  """
  # Rounds that were not run are NaN throughout; the first of all was.
  objective_LR = history.objective_LR[~np.isnan(history.objective_LR).all(1)]
  parts = own.a_RI, own.b_RO, objective_LR
  if not len(objective_LR) or not all(np.isfinite(part).all() for part in parts):
    raise ValueError(
      'the fit diverged: its values are not finite any more; lower'
      ' solver.learning_rate, the step length of the solver'
    )
