"""A probe of the gradient in a module's whole update, which is never formed."""

import dataclasses

import jax
import jax.numpy as jnp

from adapad_jax.lowrank import Delta


@jax.custom_vjp
def probed(
  x_BLI: jax.Array, y_BLO: jax.Array, probe_IO: jax.Array, wanted: jax.Array
) -> jax.Array:
  """y itself; the cotangent of `probe` is that of W in y = x W if wanted, else 0."""
  return y_BLO


def _forward(x_BLI, y_BLO, probe_IO, wanted):  # noqa: ANN001, ANN202
  return y_BLO, (x_BLI, probe_IO, wanted)


def _backward(saved, dy_BLO):  # noqa: ANN001, ANN202
  x_BLI, probe_IO, wanted = saved
  product = lambda x, dy: jnp.einsum(
    'bli,blo->io', x, dy, preferred_element_type=jnp.float32
  )
  nothing = lambda x, dy: jnp.zeros_like(probe_IO)
  dprobe_IO = jax.lax.cond(wanted, product, nothing, x_BLI, dy_BLO)
  return jnp.zeros_like(x_BLI), dy_BLO, dprobe_IO, None


probed.defvjp(_forward, _backward)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Probed:
  """A module's update, with the gradient in it as a matrix.

  Attributes:
    delta: the update.
    probe_IO: zeros; the gradient in them is dL / d Delta W.
    wanted: whether to compute that; costs one matrix product.
  """

  delta: Delta
  probe_IO: jax.Array
  wanted: jax.Array

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns delta(x)."""
    y = self.delta(x)
    rows = self.delta.sees_BS.shape[0]
    shaped = lambda z: z.reshape(rows, -1, z.shape[-1])
    return probed(shaped(x), shaped(y), self.probe_IO, self.wanted).reshape(y.shape)

  def broadcast(self, p_KI: jax.Array) -> jax.Array:
    """Returns delta(p) of every row for a table p that all rows share: (B, K, O)."""
    rows = self.delta.sees_BS.shape[0]
    return self(jnp.broadcast_to(p_KI, (rows, *p_KI.shape)))
