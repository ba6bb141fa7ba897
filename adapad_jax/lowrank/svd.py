"""The singular value decomposition of a low-rank update, which is never formed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.lowrank.update import LowRank


def svd(update: LowRank) -> tuple[Any, Any, Any]:
  """U (I, K), singular values (K,) and V^T (K, O) of Delta W = a^T b, K <= R.

  With a^T = Q P and b^T = U V it takes the SVD of P V^T, which is only (R, R). Arrays
  of numpy are decomposed on the host and in their own precision.
  """
  linalg = np.linalg if isinstance(update.a_RI, np.ndarray) else jnp.linalg
  q_IK, p_KR = linalg.qr(update.a_RI.T)
  u_OK, v_KR = linalg.qr(update.b_RO.T)
  left_KK, value_K, right_KK = linalg.svd(p_KR @ v_KR.T, full_matrices=False)
  return q_IK @ left_KK, value_K, right_KK @ u_OK.T


def by_singular_values(updates: dict[str, LowRank]) -> dict[str, LowRank]:
  """The same updates with components in order of singular value.

  Of all updates of rank k, the first k components are nearest to Delta W (Eckart and
  Young 1936), so any prefix is the best cut. Rows of `a` come out orthonormal, rows of
  `b` orthogonal with the singular values as norms.
  """
  groups: dict[tuple[int, ...], list[str]] = {}
  for name, one in updates.items():
    groups.setdefault((*one.a_RI.shape, *one.b_RO.shape), []).append(name)
  ordered: dict[str, LowRank] = {}
  for names in groups.values():
    stack = jax.tree.map(lambda *x: jnp.stack(x), *[updates[n] for n in names])
    found = jax.vmap(_rewritten)(stack)
    ordered |= {n: jax.tree.map(lambda x: x[i], found) for i, n in enumerate(names)}  # noqa: B023
  return {name: ordered[name] for name in updates}


def _rewritten(update: LowRank) -> LowRank:
  u_IR, value_R, v_RO = svd(update)
  return LowRank(u_IR.T, value_R[:, None] * v_RO)
