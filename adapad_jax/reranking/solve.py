"""Every module's bilinear regression by parallel deflation, modules over the mesh.

Module m has inputs X with S = X X^T and targets Y = Delta W^T X, so C = Y X^T =
Delta W^T S: nothing but S and Delta W is needed. Where errors of its outputs are
weighed by F, targets are F^(1/2) Y and the components found for them are taken back by
F^(-1/2). Modules do not talk to each other.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax import linalg, sharding
from adapad_jax.lowrank import LowRank
from adapad_jax.regression import Moments, Power, Schedule, rounds
from adapad_jax.regression.estimates import Estimate, objectives
from adapad_jax.regression.moments import einsum
from adapad_jax.regression.program import draw_start
from adapad_jax.regression.schedule import perfect_traffic

SCHEDULE = Schedule(rounds=150, local_steps=4, tolerance=1e-4)
# Measured in experiments/export on text that the regression had not seen.
RIDGE = 0.1
# Gains are differences of float32 numbers: below this share of the energy, rounding.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Ordered:
  """The components of one module, the one that explains most first.

  Attributes:
    update: all components.
    gains: by how much each lowers the error tr(F E^T S E), (R,), E being what all up to
      it leave of Delta W; without F that is the mean of ||E^T x||^2. S and F have the
      ridge in them.
    energy: the error of no component at all, which all gains do not exceed.
  """

  update: LowRank
  gains: np.ndarray
  energy: float

  def cut(self, rank: int) -> 'Ordered':
    """The first components alone."""
    return dataclasses.replace(
      self, update=self.update.cut(rank), gains=self.gains[:rank]
    )


def solve(
  deltas: Mapping[str, np.ndarray],
  moments: Mapping[str, np.ndarray],
  rank: int,
  mesh: jax.sharding.Mesh,
  *,
  outputs: Mapping[str, np.ndarray] | None = None,
  ridge: float = RIDGE,
  schedule: Schedule = SCHEDULE,
  seed: int = 0,
) -> dict[str, Ordered]:
  """Fits every module's update by up to `rank` components on its own inputs.

  An update of lower rank gets as many as it has: what would follow fits rounding alone,
  by components that grow from one to the next.

  Modules of one shape share a program, which takes one of them on each device of the
  mesh's data axis; the workers of a module's components stay together on it.

  Args:
    deltas: Delta W (I, O) by module name.
    moments: S (I, I) by module name, a mean over tokens.
    rank: components of every module, at most min(I, O).
    mesh: the devices; its worker axis has to be one.
    outputs: F (O, O) by module name, what errors of its outputs weigh; the same in all
      directions if missing.
    ridge: adds this share of the mean eigenvalue of S and of F to all directions, so
      that directions that the text does not show count too; much of it gives the plain
      SVD.
    schedule: rounds of deflation.
    seed: of the random start.

  Raises:
    ValueError: if the rank, the ridge or the mesh is out of range.
  """
  if rank < 1 or ridge < 0:
    raise ValueError(f'rank={rank} must be >= 1 and ridge={ridge} >= 0')
  if mesh.shape[sharding.WORKER] != 1:
    raise ValueError(f'modules lie on the data axis; the mesh is {dict(mesh.shape)}')
  found: dict[str, Ordered] = {}
  for names in _groups(deltas):
    most = min(rank, *deltas[names[0]].shape)
    run = _program(mesh, most, schedule, ridge, seed)
    weights = outputs or dict.fromkeys(names, np.eye(deltas[names[0]].shape[1]))
    at_once = mesh.shape[sharding.DATA]
    for first in range(0, len(names), at_once):
      some = names[first : first + at_once]
      found |= _solve_some(run, some, (deltas, moments, weights), mesh)
  return {name: found[name] for name in deltas}


def _groups(deltas: Mapping[str, np.ndarray]) -> Iterator[list[str]]:
  shapes: dict[tuple[int, ...], list[str]] = {}
  for name, delta_IO in deltas.items():
    shapes.setdefault(delta_IO.shape, []).append(name)
  yield from shapes.values()


def _solve_some(
  run: Callable[..., Any],
  names: list[str],
  given: tuple[Mapping[str, np.ndarray], ...],
  mesh: jax.sharding.Mesh,
) -> dict[str, Ordered]:
  """Modules of one shape, as many as there are devices or fewer.

  Each of Delta W, S and F is brought to a largest entry of one before and back after:
  gradients of a large model are small, and their squares leave float32.
  """
  short = mesh.shape[sharding.DATA] - len(names)
  padded = [*names, *names[:1] * short]  # The rest repeats the first module.
  stacks = [
    np.stack([tree[name] for name in padded], dtype=np.float32) for tree in given
  ]
  sizes = [np.abs(x).max(axis=(1, 2)).astype(np.float64) for x in stacks]
  sizes = [np.where(size_M > 0, size_M, 1.0) for size_M in sizes]
  for x, size_M in zip(stacks, sizes, strict=True):
    x /= size_M[:, None, None].astype(np.float32)
  with jax.set_mesh(mesh):
    inputs = sharding.put(tuple(stacks), jax.P(sharding.DATA))
    own, gains_MR, energy_M = jax.device_get(run(*inputs))
  delta_M, s_M, f_M = sizes
  error_M = delta_M**2 * s_M * f_M
  found = {}
  for m, name in enumerate(names):
    root = np.float32(np.sqrt(delta_M[m]))
    update = LowRank(root * own.a_RI[m], root * own.b_RO[m])
    ordered = Ordered(update, error_M[m] * gains_MR[m], float(error_M[m] * energy_M[m]))
    found[name] = ordered.cut(_told_apart(gains_MR[m], energy_M[m]))
  return found


def _told_apart(gain_R: np.ndarray, energy: float) -> int:
  """How many components there are before the first that explains rounding alone."""
  is_rounding_R = gain_R <= _ROUNDING * energy
  return int(np.argmax(is_rounding_R)) if is_rounding_R.any() else len(gain_R)


@functools.cache
def _program(
  mesh: jax.sharding.Mesh, rank: int, schedule: Schedule, ridge: float, seed: int
) -> Callable[..., Any]:
  """The compiled (Delta W, S, F), each of M modules, -> components of all."""
  one = functools.partial(_fit_module, rank, schedule, ridge, seed)

  def inside(*given: jax.Array) -> Any:
    return jax.lax.map(lambda own: one(*own), given)

  modules = jax.P(sharding.DATA)
  return jax.jit(
    jax.shard_map(
      inside,
      mesh=mesh,
      in_specs=modules,
      out_specs=modules,
      check_vma=False,
    )
  )


def _fit_module(
  rank: int,
  schedule: Schedule,
  ridge: float,
  seed: int,
  delta_IO: jax.Array,
  s_II: jax.Array,
  f_OO: jax.Array,
) -> tuple[Any, jax.Array, jax.Array]:
  """One module on one device: its components, balanced, and what they explain."""
  size = s_II.shape[0]
  s_II, (root_OO, back_OO) = _lifted(s_II, ridge), _roots(_lifted(f_OO, ridge))
  delta_IO = einsum('io,op->ip', delta_IO, root_OO)
  c_OI = einsum('io,ij->oj', delta_IO, s_II)
  energy = jnp.sum(c_OI * delta_IO.T)
  nothing = lambda x: jnp.zeros(x, s_II.dtype)
  moments = Moments(
    c_OI, s_II, energy, nothing(()), nothing(size), nothing(c_OI.shape[0])
  )
  solver = Power()
  problem = solver.prepare(moments)
  start_RI = jnp.asarray(draw_start(seed, rank, size), s_II.dtype)
  now = rounds.begin(solver, problem, start_RI, jnp.int32(schedule.first(rank)), 1)
  quiet = jax.tree.map(jnp.asarray, perfect_traffic(schedule.rounds, rank))
  reference = rounds.Reference(energy)
  now, _ = rounds.run(solver, schedule, rank, problem, reference, quiet, now)
  own = solver.component(problem, jax.tree.map(lambda x: x[0], now.kept))
  left_R = _errors(own.a_RI, own.b_RO, moments)
  before_R = jnp.concatenate([energy[None], left_R[:-1]])
  own = dataclasses.replace(own, b_RO=einsum('ro,op->rp', own.b_RO, back_OO))
  return _balanced(own), jnp.maximum(before_R - left_R, 0), energy


def _lifted(s_II: jax.Array, ridge: float) -> jax.Array:
  """With a share of the mean eigenvalue added to all of them."""
  size = len(s_II)
  return s_II + ridge * jnp.trace(s_II) / size * jnp.eye(size, dtype=s_II.dtype)


def _roots(f_OO: jax.Array) -> tuple[jax.Array, jax.Array]:
  """R with R R^T = F, and its inverse; where F has nothing, both have nothing."""
  lower_OO = linalg.cholesky(f_OO)

  def by_cholesky() -> tuple[jax.Array, jax.Array]:
    return lower_OO, linalg.solve_lower(lower_OO, jnp.eye(len(f_OO), dtype=f_OO.dtype))

  def by_eigenvectors() -> tuple[jax.Array, jax.Array]:
    f_O, v_OO = linalg.eigh(f_OO)
    is_there = f_O > 1e-6 * f_O[-1]
    root_O = jnp.sqrt(jnp.where(is_there, f_O, 1.0))
    part = lambda x_O: einsum('op,p,qp->oq', v_OO, jnp.where(is_there, x_O, 0.0), v_OO)
    return part(root_O), part(1 / root_O)

  return jax.lax.cond(linalg.is_regular(lower_OO), by_cholesky, by_eigenvectors)


def _errors(a_RI: jax.Array, b_RO: jax.Array, moments: Moments) -> jax.Array:
  """E ||y - sum_{j<=k} b_j a_j^T x||^2 for every k, from the moments."""
  g_RI = einsum('ri,ij->rj', a_RI, moments.s_II)
  h_RO = einsum('ri,oi->ro', a_RI, moments.c_OI)
  estimate = Estimate(a_RI, b_RO, jnp.sum(b_RO * h_RO, 1), g_RI)
  return 2 * objectives(moments.yy, estimate, jnp.ones(len(a_RI)))


def _balanced(own: Any) -> Any:
  """The same terms with ||a_k|| = ||b_k||, the better start for more training."""
  norm = lambda x_RX: jnp.sqrt(jnp.sum(jnp.square(x_RX), 1, keepdims=True))
  a_R1, b_R1 = norm(own.a_RI), norm(own.b_RO)
  is_used = (a_R1 > 0) & (b_R1 > 0)
  scale_R1 = jnp.where(is_used, jnp.sqrt(b_R1 / jnp.where(is_used, a_R1, 1)), 0)
  safe_R1 = jnp.where(is_used, scale_R1, 1)
  return dataclasses.replace(own, a_RI=own.a_RI * scale_R1, b_RO=own.b_RO / safe_R1)
