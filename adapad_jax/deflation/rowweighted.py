"""A linear layer whose own gradient counts only some rows of the batch.

The head is shared, but a setting decides whose rows train it. The gradient that
passes through to the layers below is the true one for every row, so one backward
pass serves the components of all workers and the head.
"""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def row_weighted_linear(
  x_BLI: jax.Array, kernel_IO: jax.Array, bias_O: jax.Array, weight_B: jax.Array
) -> jax.Array:
  """y = x W + c; the cotangents of W and c sum rows weighted by `weight_B`."""
  return x_BLI @ kernel_IO + bias_O.reshape(1, 1, -1)


def _forward(x_BLI, kernel_IO, bias_O, weight_B):  # noqa: ANN001, ANN202
  y_BLO = row_weighted_linear(x_BLI, kernel_IO, bias_O, weight_B)
  return y_BLO, (x_BLI, kernel_IO, bias_O, weight_B)


def _backward(saved, dy_BLO):  # noqa: ANN001, ANN202
  x_BLI, kernel_IO, bias_O, weight_B = saved
  counted_BLO = dy_BLO * weight_B[:, None, None].astype(dy_BLO.dtype)
  return (
    (dy_BLO @ kernel_IO.T).astype(x_BLI.dtype),
    jnp.einsum('bli,blo->io', x_BLI, counted_BLO).astype(kernel_IO.dtype),
    jnp.sum(counted_BLO, (0, 1)).astype(bias_O.dtype),
    None,
  )


row_weighted_linear.defvjp(_forward, _backward)
