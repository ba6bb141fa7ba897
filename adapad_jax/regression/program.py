"""The jitted programs of a run, laid out over the mesh."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax import sharding
from adapad_jax.regression import rounds
from adapad_jax.regression.estimates import Estimate, exact_estimate
from adapad_jax.regression.moments import Moments, einsum
from adapad_jax.regression.schedule import Schedule, Traffic


@dataclasses.dataclass(frozen=True)
class Plan:
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


def _specs() -> rounds.Progress:
  """How a `Progress` lies on the mesh: workers are split, what was heard is not."""
  whole = jax.P()
  return rounds.Progress(whole, whole, jax.P(sharding.WORKER), whole, whole)


def _on_mesh(function: Any, plan: Plan, in_specs: Any, out_specs: Any) -> Any:
  """Maps a per-device function; all that it gathers is equal on all devices."""
  # The type system cannot know the latter, hence no check.
  return jax.shard_map(
    function, mesh=plan.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
  )


@functools.partial(jax.jit, static_argnames='plan')
def prepare(moments: Moments, plan: Plan) -> Any:
  """The moments in the solver's coordinates."""
  return plan.solver.prepare(moments)


@functools.partial(jax.jit, static_argnames='plan')
def exact_in(problem: Any, plan: Plan) -> Estimate:
  """The exact components in the coordinates of a prepared problem."""
  return exact_estimate(problem.c_OI, problem.s_II, plan.workers)


@functools.partial(jax.jit, static_argnames=('plan', 'keep'))
def begin(problem: Any, key: jax.Array, plan: Plan, keep: int = 1) -> rounds.Progress:
  """The workers before their first round; readers may be keep - 1 rounds late."""
  inside = lambda problem, key: rounds.begin(
    plan.solver, problem, key, plan.schedule, plan.workers, keep
  )
  return _on_mesh(inside, plan, jax.P(), _specs())(problem, key)


@functools.partial(jax.jit, static_argnames='plan', donate_argnames='progress')
def advance(
  problem: Any,
  yy: jax.Array,
  exact: Estimate | None,
  traffic: Traffic,
  progress: rounds.Progress,
  plan: Plan,
) -> tuple[rounds.Progress, rounds.History]:
  """All rounds of the schedule as one program."""
  extra = plan.workers - traffic.late_LR.shape[1]
  traffic = jax.tree.map(lambda x_LR: jnp.pad(x_LR, ((0, 0), (0, extra))), traffic)
  inside = functools.partial(rounds.run, plan.solver, plan.schedule, plan.rank)
  whole = jax.P()
  in_specs = (whole, whole, whole, whole, _specs())
  mapped = _on_mesh(inside, plan, in_specs, (_specs(), whole))
  return mapped(problem, yy, exact, traffic, progress)


@functools.partial(jax.jit, static_argnames='plan', donate_argnames='progress')
def rebase(problem: Any, progress: rounds.Progress, plan: Plan) -> rounds.Progress:
  """The same components on changed data: the products that travel along, anew."""

  def inside(problem: Any, progress: rounds.Progress) -> rounds.Progress:
    kept = progress.kept
    g_VSI = einsum('vsi,ij->vsj', kept.a_SI, problem.s_II)
    h_VSO = einsum('vsi,oi->vso', kept.a_SI, problem.c_OI)
    gain_VS = jnp.sum(h_VSO * kept.b_SO, 2)
    return dataclasses.replace(
      progress,
      state=plan.solver.rebase(problem, progress.state),
      kept=Estimate(kept.a_SI, kept.b_SO, gain_VS, g_VSI),
    )

  return _on_mesh(inside, plan, (jax.P(), _specs()), _specs())(problem, progress)
