"""How components start: b = 0, so that training starts from the model itself."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax import linalg
from adapad_jax.lowrank.packing import Packing
from adapad_jax.lowrank.update import LowRank


def kaiming(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Rows uniform in +-1 / sqrt(I), as LoRA implementations start A."""
  bound = 1 / math.sqrt(shape[1])
  draw = lambda k: jax.random.uniform(
    jax.random.fold_in(key, k), shape[1:], minval=-bound, maxval=bound
  )
  return jax.vmap(draw)(jnp.arange(shape[0]))


def gaussian(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Rows from N(0, 0.02^2), as AdaLoRA and IncreLoRA start A."""
  draw = lambda k: 0.02 * jax.random.normal(jax.random.fold_in(key, k), shape[1:])
  return jax.vmap(draw)(jnp.arange(shape[0]))


def orthonormal(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Rows orthogonal to their predecessors, of the norm that `kaiming` has on average.

  No more rows than dimensions can be; the others, which no module grows to, are as
  `kaiming` draws them.
  """
  draw = lambda k: jax.random.normal(jax.random.fold_in(key, k), shape[1:])
  rows = min(shape)
  q_IR, upper_RR = linalg.qr(jax.vmap(draw)(jnp.arange(rows)).T)
  found_RI = (q_IR * jnp.sign(jnp.diagonal(upper_RR))[None]).T / math.sqrt(3)
  return jnp.concatenate([found_RI, kaiming(key, shape)[rows:]])


def along_gradient(g_IO: jax.Array, drawn_RI: jax.Array) -> jax.Array:
  """Rows along the leading left singular directions of a gradient, longest first.

  The steepest descent of rank r in Delta W = a^T b from b = 0 has its a there. Rows
  have the norm that `kaiming` has on average. Where G has no further direction, or is
  not finite, the row stays as it was drawn.

  Args:
    g_IO: G = dL / dW of a module.
    drawn_RI: the start without it.
  """
  u_IK, value_K, _ = linalg.svd(jnp.nan_to_num(g_IO))
  found = min(len(value_K), len(drawn_RI))
  u_RI, value_R = u_IK.T[:found], value_K[:found]
  u_RI *= linalg.row_signs(u_RI)
  is_there_R1 = (value_R > 1e-6 * value_R[0])[:, None] & jnp.all(jnp.isfinite(g_IO))
  start_RI = jnp.where(is_there_R1, u_RI / math.sqrt(3), drawn_RI[:found])
  return jnp.concatenate([start_RI, drawn_RI[found:]])


INITIALIZERS: dict[str, Callable[[jax.Array, tuple[int, int]], jax.Array]] = {
  'kaiming': kaiming,
  'gaussian': gaussian,
  'orthonormal': orthonormal,
}


def init_updates(
  key: jax.Array, shapes: Mapping[str, tuple[int, int]], workers: int, how: str
) -> dict[str, LowRank]:
  """Stacks of `workers` components for modules of the given (I, O) shapes.

  Row k depends on the key, the module's place and k alone, not on `workers`.

  Raises:
    ValueError: if `how` is unknown.
  """
  names, a_RI = list(shapes), {}
  for places, drawn_MRI in _drawn(key, list(shapes.values()), workers, how):
    a_RI |= dict(zip((names[m] for m in places), drawn_MRI, strict=True))
  return {
    name: LowRank(a_RI[name], jnp.zeros((workers, features_out)))
    for name, (_, features_out) in shapes.items()
  }


def init_packed(key: jax.Array, packing: Packing, workers: int, how: str) -> jax.Array:
  """What `packing` makes of the same components, (R, M, P).

  Modules are not taken apart for it, and so not compiled one by one.

  Raises:
    ValueError: if `how` is unknown.
  """
  order, groups = [], []
  for places, drawn_MRI in _drawn(key, packing.shapes, workers, how):
    order += places
    beyond = packing.width - drawn_MRI.shape[2]
    groups.append(jnp.pad(drawn_MRI, ((0, 0), (0, 0), (0, beyond))))
  return jnp.swapaxes(jnp.concatenate(groups)[np.argsort(order)], 0, 1)


def _drawn(
  key: jax.Array, shapes: Sequence[tuple[int, int]], workers: int, how: str
) -> Iterator[tuple[list[int], jax.Array]]:
  """Places of the modules of one width, and their input directions."""
  if how not in INITIALIZERS:
    raise ValueError(f'unknown init {how!r}; choose from {sorted(INITIALIZERS)}')
  for width in dict.fromkeys(features_in for features_in, _ in shapes):
    # A loop, whose body is compiled once and not again for every module: that took
    # seconds before the first step.
    places = [m for m, (features_in, _) in enumerate(shapes) if features_in == width]
    drawn_MRI = jax.lax.map(
      lambda m, width=width: INITIALIZERS[how](
        jax.random.fold_in(key, m), (workers, width)
      ),
      jnp.array(places),
    )
    yield places, drawn_MRI
