"""Low-rank updates rewritten by singular values, so that any prefix is the best cut."""

import jax
import jax.numpy as jnp

from adapad_jax import linalg
from adapad_jax.deflation.components import Component


def by_singular_values(components: dict[str, Component]) -> dict[str, Component]:
  """The same updates Delta W = a^T b with components in order of singular value.

  Of all updates of rank k, the first k components are nearest to Delta W (Eckart and
  Young 1936). With a^T = Q P and b^T = U V it takes the SVD of P V^T, which is only
  (R, R); Delta W itself is never formed. Rows of `a` come out orthonormal, rows of `b`
  orthogonal with the singular values as norms.
  """
  groups: dict[tuple[int, ...], list[str]] = {}
  for name, one in components.items():
    groups.setdefault((*one.a_RI.shape, *one.b_RO.shape), []).append(name)
  ordered: dict[str, Component] = {}
  for names in groups.values():
    stack = jax.tree.map(lambda *x: jnp.stack(x), *[components[n] for n in names])
    found = jax.lax.map(_rewrite, stack)
    ordered |= {n: jax.tree.map(lambda x: x[i], found) for i, n in enumerate(names)}  # noqa: B023
  return {name: ordered[name] for name in components}


def _rewrite(one: Component) -> Component:
  q_IR, p_RR = linalg.qr(one.a_RI.T)
  u_OR, v_RR = linalg.qr(one.b_RO.T)
  left_RR, value_R, right_RR = linalg.svd(p_RR @ v_RR.T)
  return Component((q_IR @ left_RR).T, value_R[:, None] * (right_RR @ u_OR.T))


def check_rank(shapes: dict[str, tuple[int, int]], rank: int, setting: str) -> None:
  """Refuses more components than a module has dimensions.

  Raises:
    ValueError: naming the setting and the smallest module.
  """
  name = min(shapes, key=lambda module: min(shapes[module]))
  if not 1 <= rank <= min(shapes[name]):
    raise ValueError(
      f'{setting} is {rank}; must be in 1..{min(shapes[name])}, since {name} is'
      f' {shapes[name][0]} x {shapes[name][1]}'
    )
