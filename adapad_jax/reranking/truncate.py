"""The reference: the best low-rank matrix, whatever the inputs are."""

from collections.abc import Mapping

import numpy as np

from adapad_jax.lowrank import LowRank
from adapad_jax.reranking.solve import Ordered


def truncate(deltas: Mapping[str, np.ndarray], rank: int) -> dict[str, Ordered]:
  """The leading singular components of every update; gains are sigma^2.

  Args:
    deltas: Delta W (I, O) by module name.
    rank: components of every module.
  """
  found = {}
  for name, delta_IO in deltas.items():
    u_IR, sigma_R, v_RO = np.linalg.svd(delta_IO, full_matrices=False)
    root_R1 = np.sqrt(sigma_R[:rank, None])
    update = LowRank(root_R1 * u_IR.T[:rank], root_R1 * v_RO[:rank])
    energy = float(np.sum(np.square(sigma_R)))
    found[name] = Ordered(update, np.square(sigma_R[:rank]), energy)
  return found
