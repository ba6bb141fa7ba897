"""The jitted programs of a run, laid out over the mesh."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax import sharding
from adapad_jax.lowrank import LowRank
from adapad_jax.regression import rounds
from adapad_jax.regression.estimates import Estimate, exact_estimate
from adapad_jax.regression.frame import Frame, make_frame
from adapad_jax.regression.moments import Moments, einsum
from adapad_jax.regression.schedule import Schedule, Traffic
from adapad_jax.regression.solvers import white_objective


@dataclasses.dataclass(frozen=True)
class ProgramSpec:
  """What a program is compiled for.

  Attributes:
    solver: local steps, see `solvers` and `pca`.
    schedule: the rounds.
    rank: number of components.
    mesh: the devices.
  """

  solver: Any
  schedule: Schedule
  rank: int
  mesh: jax.sharding.Mesh

  @property
  def workers(self) -> int:
    """The rank, or the next multiple of the devices: the rest sees and says nothing."""
    devices = self.mesh.shape[sharding.WORKER]
    return -(-self.rank // devices) * devices


def _specs() -> rounds.Carry:
  """How a `Carry` lies on the mesh: workers are split, what was heard is not."""
  whole = jax.P()
  return rounds.Carry(whole, whole, jax.P(sharding.WORKER), whole, whole)


def _on_mesh(
  function: Any, mesh: jax.sharding.Mesh, in_specs: Any, out_specs: Any
) -> Any:
  """Maps a per-device function; all that it gathers is equal on all devices."""
  # The type system cannot know the latter, hence no check.
  return jax.shard_map(
    function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
  )


@functools.partial(jax.jit, static_argnames='solver')
def prepare(moments: Moments, solver: Any) -> Any:
  """The moments in the solver's coordinates."""
  return solver.prepare(moments)


@functools.partial(jax.jit, static_argnames='rank')
def exact_in(objective: Any, rank: int) -> Estimate:
  """The exact components in the coordinates of a prepared objective."""
  return exact_estimate(objective.c_OI, objective.s_II, rank)


def draw_start(seed: int, workers: int, size: int) -> np.ndarray:
  """Random inputs a, (R, I); each worker's draw depends on its rank alone.

  Drawn on the host, where the shape costs no compilation.
  """
  draws = [np.random.default_rng((seed, k)).normal(size=size) for k in range(workers)]
  return np.stack(draws) / np.sqrt(size)


def start_of(
  seed: int, workers: int, objective: Any, solver: Any, frame: Frame | None
) -> np.ndarray:
  """Where workers start; at zero, which they never leave, beyond the rank of X or Y.

  To those the data leave nothing. Their terms would follow the errors of all before
  them, each one twice those of the last, until the others have converged.
  """
  outputs, inputs = objective.c_OI.shape
  start_RI = draw_start(seed, workers, inputs)
  if frame is not None:
    start_RI = solver.draw(frame, start_RI)
    start_RI[min(frame.rank, outputs) :] = 0
  return start_RI.astype(objective.c_OI.dtype)


def by_worker(x_RX: np.ndarray, mesh: jax.sharding.Mesh) -> jax.Array:
  """Rows on the devices of their workers."""
  return jax.device_put(x_RX, jax.NamedSharding(mesh, jax.P(sharding.WORKER)))


def place(moments: Moments, solver: Any, dtype: str) -> tuple[Any, Frame | None]:
  """The problem in the solver's coordinates, and the frame that leads back.

  Args:
    moments: in float64, or as precise as they are.
    solver: local steps.
    dtype: of the rounds to come.
  """
  if not solver.white:
    cast = jax.tree.map(lambda x: np.asarray(x).astype(dtype), moments)
    return prepare(cast, solver), None
  frame = make_frame(np.asarray(moments.s_II), dtype)
  k_OI = frame.whiten(np.asarray(moments.c_OI)).astype(dtype)
  return _white(k_OI), frame


@jax.jit
def _white(k_OI: jax.Array) -> Any:
  return white_objective(k_OI)


def begin(
  objective: Any,
  seed: int,
  spec: ProgramSpec,
  keep: int = 1,
  frame: Frame | None = None,
) -> rounds.Carry:
  """The workers before their first round; readers may be keep - 1 rounds late."""
  start_RI = start_of(seed, spec.workers, objective, spec.solver, frame)
  start_RI = by_worker(start_RI, spec.mesh)
  first = np.int32(spec.schedule.first(spec.rank))
  return _begin(objective, start_RI, first, spec.solver, spec.mesh, keep)


@functools.partial(jax.jit, static_argnames=('solver', 'mesh', 'keep'))
def _begin(
  objective: Any,
  start_RI: jax.Array,
  first: jax.Array,
  solver: Any,
  mesh: jax.sharding.Mesh,
  keep: int,
) -> rounds.Carry:
  """`begin`, compiled for what its program depends on."""
  inside = lambda objective, start_rI, first: rounds.begin(
    solver, objective, start_rI, first, keep
  )
  in_specs = (jax.P(), jax.P(sharding.WORKER), jax.P())
  return _on_mesh(inside, mesh, in_specs, _specs())(objective, start_RI, first)


@functools.partial(jax.jit, static_argnames='spec', donate_argnames='carry')
def advance(
  objective: Any,
  reference: rounds.Reference,
  traffic: Traffic,
  carry: rounds.Carry,
  spec: ProgramSpec,
) -> tuple[rounds.Carry, rounds.History]:
  """All rounds of the schedule as one program."""
  extra = spec.workers - traffic.late_LR.shape[1]
  traffic = jax.tree.map(lambda x_LR: jnp.pad(x_LR, ((0, 0), (0, extra))), traffic)
  inside = functools.partial(rounds.run, spec.solver, spec.schedule, spec.rank)
  whole = jax.P()
  in_specs = (whole, whole, whole, _specs())
  mapped = _on_mesh(inside, spec.mesh, in_specs, (_specs(), whole))
  return mapped(objective, reference, traffic, carry)


@functools.partial(jax.jit, static_argnames=('solver', 'rank'))
def newest(objective: Any, kept: Estimate, solver: Any, rank: int) -> LowRank:
  """The last broadcast, in original coordinates."""
  last = jax.tree.map(lambda x_VS: x_VS[0, :rank], kept)
  return solver.component(objective, last)


@functools.partial(jax.jit, static_argnames='spec', donate_argnames='carry')
def rebase(
  objective: Any,
  carry: rounds.Carry,
  spec: ProgramSpec,
  turn_II: jax.Array | None = None,
  start_RI: jax.Array | None = None,
) -> rounds.Carry:
  """The same components on changed data: the products that travel along, anew.

  Args:
    objective: the changed data.
    carry: the workers.
    spec: of the run.
    turn_II: what rows of old coordinates are multiplied by to get to the new ones.
    start_RI: where workers of zero terms begin again, in the new coordinates; what
      they have may lie where the new data leave nothing, or be zero.
  """

  def turned(x_SI: jax.Array) -> jax.Array:
    return x_SI if turn_II is None else einsum('...i,ij->...j', x_SI, turn_II)

  def inside(
    objective: Any, carry: rounds.Carry, start_rI: jax.Array | None
  ) -> rounds.Carry:
    kept, state = carry.kept, carry.state
    a_VSI = turned(kept.a_SI)
    g_VSI = objective.s_II
    if g_VSI is not None:
      g_VSI = einsum('vsi,ij->vsj', a_VSI, objective.s_II)
    h_VSO = einsum('vsi,oi->vso', a_VSI, objective.c_OI)
    gain_VS = jnp.sum(h_VSO * kept.b_SO, 2)
    a_rI = turned(state.a_rI)
    if start_rI is not None:
      a_rI = jnp.where(jnp.any(state.b_rO != 0, 1, keepdims=True), a_rI, start_rI)
    state = dataclasses.replace(state, a_rI=a_rI)
    return dataclasses.replace(
      carry,
      state=spec.solver.rebase(objective, state),
      kept=Estimate(a_VSI, kept.b_SO, gain_VS, g_VSI),
    )

  in_specs = (jax.P(), _specs(), jax.P(sharding.WORKER))
  return _on_mesh(inside, spec.mesh, in_specs, _specs())(objective, carry, start_RI)
