"""Updates in the form of a singular value decomposition, held near it by a penalty.

Shared by AdaLoRA (arXiv:2303.10512) and IncreLoRA (arXiv:2308.12043).
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from adapad_jax.lowrank import Delta, LowRank
from adapad_jax.lowrank.initialize import gaussian


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Triplet:
  """Terms e_k a_k^T b_k of one module's update, stacked.

  Attributes:
    a_RI, b_RO: directions, near orthonormal by `orthogonality`.
    e_R: the values, lambda in the papers.
  """

  a_RI: jax.Array
  b_RO: jax.Array
  e_R: jax.Array

  def component(self, weight_R: jax.Array) -> LowRank:
    """The update with values and weights as part of b."""
    return LowRank(self.a_RI, (weight_R * self.e_R)[:, None] * self.b_RO)


def init_triplets(
  key: jax.Array, shapes: dict[str, tuple[int, int]], width: int
) -> dict[str, Triplet]:
  """Directions from N(0, 0.02^2) and zero values."""
  return {
    name: Triplet(
      gaussian(jax.random.fold_in(key, 2 * m), (width, features_in)),
      gaussian(jax.random.fold_in(key, 2 * m + 1), (width, features_out)),
      jnp.zeros(width),
    )
    for m, (name, (features_in, features_out)) in enumerate(shapes.items())
  }


def deltas_of(
  modules: tuple[str, ...],
  triplets: dict[str, Triplet],
  weight_MR: jax.Array,
  rows: int,
) -> dict[str, Delta]:
  """Updates that every row sees and trains, terms weighted by module and place."""
  all_BR = jnp.ones((rows, weight_MR.shape[1]))
  found = {}
  for m, name in enumerate(modules):
    one = triplets[name].component(weight_MR[m])
    found[name] = Delta(one.a_RI, one.b_RO, all_BR, all_BR)
  return found


def orthogonality(
  modules: tuple[str, ...], triplets: dict[str, Triplet], live_MR: jax.Array
) -> jax.Array:
  """(1 / 2M) sum_m ||A A^T - 1||_F + ||B B^T - 1||_F over the live rows.

  The norm is not squared, as in the authors' code and unlike the papers' formula.
  """
  total = jnp.zeros(())
  for m, name in enumerate(modules):
    for x_RX in (triplets[name].a_RI, triplets[name].b_RO):
      own_RX = x_RX * live_MR[m][:, None]
      off_RR = own_RX @ own_RX.T - jnp.diag(live_MR[m])
      # The gradient of a plain norm is not a number where the norm is zero.
      total += optax.safe_norm(off_RR, 0.0)
  return total / (2 * len(modules))
