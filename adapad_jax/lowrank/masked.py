"""A module's low-rank term, and products in which rows see different components.

Which components a row sees in the forward pass and which ones its gradient reaches are
two 0/1 masks, so rows of different workers share one pair of thin matrix products: a
step costs what plain LoRA of the same capacity costs.
"""

import dataclasses

import jax
import jax.numpy as jnp


@jax.custom_vjp
def masked_lowrank(
  x_BLI: jax.Array,
  a_SI: jax.Array,
  b_SO: jax.Array,
  sees_BS: jax.Array,
  trains_BS: jax.Array,
) -> jax.Array:
  """y[e] = sum_s sees[e, s] (x[e] a_s) b_s, differentiated by `trains`.

  The cotangents of a_s and b_s sum over rows weighted by `trains`, that of x is
  the true one. Products run in the dtype of x and accumulate in float32.
  """
  return _forward(x_BLI, a_SI, b_SO, sees_BS, trains_BS)[0]


def _dot(spec: str, *args: jax.Array) -> jax.Array:
  return jnp.einsum(spec, *args, preferred_element_type=jnp.float32)


def _forward(x_BLI, a_SI, b_SO, sees_BS, trains_BS):  # noqa: ANN001, ANN202
  a, b = a_SI.astype(x_BLI.dtype), b_SO.astype(x_BLI.dtype)
  z_BLS = _dot('bli,si->bls', x_BLI, a)
  seen_BLS = (z_BLS * sees_BS[:, None]).astype(x_BLI.dtype)
  y_BLO = _dot('bls,so->blo', seen_BLS, b).astype(x_BLI.dtype)
  return y_BLO, (x_BLI, a_SI, b_SO, z_BLS, sees_BS, trains_BS)


def _backward(saved, dy_BLO):  # noqa: ANN001, ANN202
  x_BLI, a_SI, b_SO, z_BLS, sees_BS, trains_BS = saved
  dtype = x_BLI.dtype
  dy_BLO = dy_BLO.astype(dtype)
  dz_BLS = _dot('blo,so->bls', dy_BLO, b_SO.astype(dtype))
  dx_BLI = _dot(
    'bls,si->bli', (dz_BLS * sees_BS[:, None]).astype(dtype), a_SI.astype(dtype)
  )
  da_SI = _dot('bls,bli->si', (dz_BLS * trains_BS[:, None]).astype(dtype), x_BLI)
  db_SO = _dot('bls,blo->so', (z_BLS * trains_BS[:, None]).astype(dtype), dy_BLO)
  return dx_BLI.astype(dtype), da_SI, db_SO, None, None


masked_lowrank.defvjp(_forward, _backward)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Delta:
  """One module's low-rank term, ready to be added to its output.

  Attributes:
    a_SI, b_SO: components; the scale s is part of b_SO.
    sees_BS: 1 where a row's forward pass contains the component.
    trains_BS: 1 where the row's gradient reaches it.
  """

  a_SI: jax.Array
  b_SO: jax.Array
  sees_BS: jax.Array
  trains_BS: jax.Array

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns delta(x) for x of shape (B, ..., I) or (B * n, ..., I).

    Raises:
      ValueError: if the leading axis is not a multiple of the rows.
    """
    rows = self.sees_BS.shape[0]
    if x.ndim < 2 or x.shape[0] % rows:
      raise ValueError(
        f'an adapted layer got an input of shape {x.shape}; its leading axis must'
        f' be the {rows} rows of the batch, or a multiple that keeps rows together'
      )
    x_BLI = x.reshape(rows, -1, x.shape[-1])
    y_BLO = masked_lowrank(x_BLI, self.a_SI, self.b_SO, self.sees_BS, self.trains_BS)
    return y_BLO.reshape(*x.shape[:-1], self.b_SO.shape[-1])

  def broadcast(self, p_KI: jax.Array) -> jax.Array:
    """Returns delta(p) of every row for a table p that all rows share: (B, K, O)."""
    rows = self.sees_BS.shape[0]
    return self(jnp.broadcast_to(p_KI, (rows, *p_KI.shape)))
