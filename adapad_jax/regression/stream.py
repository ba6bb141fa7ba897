"""Fits on data that arrive in batches."""

import dataclasses

import jax
import numpy as np

from adapad_jax import sharding
from adapad_jax.lowrank import LowRank
from adapad_jax.regression import program, rounds
from adapad_jax.regression.fit import Fit, collect, precision, sums
from adapad_jax.regression.frame import Frame
from adapad_jax.regression.moments import Moments, merge
from adapad_jax.regression.schedule import Schedule, perfect_traffic
from adapad_jax.regression.solvers import Alternating, Gradient


@dataclasses.dataclass(frozen=True)
class Stream:
  """What `partial_fit` hands from batch to batch.

  Attributes:
    moments: sums over all batches so far, decayed.
    carry: the workers; given up to the next call, which reuses its memory.
    fit: the fit after the last batch. Its `converged` says whether it has settled on
      the data so far; there is no warning, for the next batch goes on with it.
    frame: the coordinates of the workers; None for those of the inputs.
    centre: whether the running means are subtracted.
    spec: rank, solver and devices of the last call.
  """

  moments: Moments
  carry: rounds.Carry
  fit: Fit
  frame: Frame | None = None
  centre: bool = False
  spec: program.ProgramSpec | None = None


def partial_fit(
  x_NI: np.ndarray,
  y_NO: np.ndarray,
  rank: int,
  stream: Stream | None = None,
  *,
  solver: Gradient | Alternating | None = None,
  schedule: Schedule | None = None,
  mesh: jax.sharding.Mesh | None = None,
  dtype: str = 'float32',
  decay: float = 1.0,
  centre: bool = False,
  seed: int = 0,
) -> Stream:
  """Takes in one more batch, then runs some rounds from where the workers stood.

  Rank, solver, mesh, dtype and centre must stay the same from call to call.

  Args:
    x_NI: the batch's inputs.
    y_NO: the batch's outputs.
    rank: number of components.
    stream: what the last call returned; None for the first batch.
    solver: `Alternating`, which factors S anew for every batch, or `Gradient`,
      which does not.
    schedule: rounds to run on this batch.
    mesh: devices.
    dtype: 'float32' or 'float64'.
    decay: weight of all former batches; 1 treats all alike, 0 forgets them.
    centre: whether to subtract the running means.
    seed: of the random start, used by the first call, and by later ones for
      components that the data so far have left at zero.

  Raises:
    ValueError: for data or settings that cannot be fitted, or a fit that diverged.
  """
  solver = solver or Alternating()
  if not hasattr(solver, 'rebase'):
    raise ValueError(
      f'solver={solver} works in coordinates that change with every batch; choose'
      ' Alternating() or Gradient(...)'
    )
  if not 0 <= decay <= 1:
    raise ValueError(f'decay={decay} must lie between 0 and 1')
  schedule = schedule or Schedule(rounds=10)
  spec = program.ProgramSpec(solver, schedule, rank, mesh or sharding.make_mesh())
  with precision(dtype):
    moments = sums(x_NI, y_NO, rank, dtype, centre=centre)
    if stream is not None:
      _check_same(stream, moments, spec, dtype, centre)
      with precision('float64'):
        moments = merge(stream.moments, moments, decay)
    objective, frame = program.place(moments, solver, dtype)
    if stream is None:
      carry = program.begin(objective, seed, spec, frame=frame)
    else:
      turn_II = _turn(stream.frame, frame, dtype)
      start_RI = None
      if frame is not None:
        start_RI = program.start_of(seed, spec.workers, objective, solver, frame)
        start_RI = program.by_worker(start_RI, spec.mesh)
      carry = program.rebase(objective, stream.carry, spec, turn_II, start_RI)
    traffic = perfect_traffic(schedule.rounds, rank)
    yy = np.asarray(moments.yy).astype(dtype)
    carry, history = program.advance(
      objective, rounds.Reference(yy), traffic, carry, spec
    )
    found = collect(spec, (objective, frame), carry, history, yy)
    return Stream(moments, carry, found, frame, centre, spec)


def _turn(old: Frame | None, new: Frame | None, dtype: str) -> np.ndarray | None:
  """What rows of coordinates in one frame are multiplied by to get to another."""
  if old is None or new is None:
    return None
  return new.enter(old.restore(np.eye(len(old.s_II)))).astype(dtype)


def _check_same(
  stream: Stream,
  batch: Moments,
  spec: program.ProgramSpec,
  dtype: str,
  centre: bool,
) -> None:
  """Refuses a batch that does not belong to the stream.

  Raises:
    ValueError: naming what changed.
  """
  kept, new = stream.moments.c_OI, batch.c_OI
  old = stream.spec
  for name, before, now in (
    ('rank', old.rank, spec.rank),
    ('solver', type(old.solver).__name__, type(spec.solver).__name__),
    ('mesh', old.mesh, spec.mesh),
    ('(outputs, inputs)', kept.shape, new.shape),
    ('dtype', stream.fit.b_RO.dtype.name, dtype),
    ('centre', stream.centre, centre),
  ):
    if before != now:
      raise ValueError(f'{name} was {before} in the last call and is {now} in this one')
  # Not its settings, such as the rate: optax makes new functions in every call.
  if isinstance(spec.solver, Gradient):
    begun = spec.solver.tx.init(LowRank(stream.fit.a_RI[0], stream.fit.b_RO[0]))
    if jax.tree.structure(begun) != jax.tree.structure(stream.carry.state.opt):
      raise ValueError('solver has another optimiser in this call than in the last one')
