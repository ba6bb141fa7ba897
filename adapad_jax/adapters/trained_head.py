"""A linear layer whose own gradient counts only some rows of the batch.

The head is shared, but a setting decides whose rows train it. The gradient that
passes through to the layers below is the true one for every row, so one backward
pass serves the components of all workers and the head.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

HeadParams = dict[str, dict[str, jax.Array]]


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


class TrainedLinear(nnx.Module):
  """A linear layer of the head, whose own gradient may count some rows only."""

  def __init__(self, params: Mapping[str, jax.Array], weight_B: Any) -> None:
    self.params = nnx.data(dict(params))
    self.weight_B = nnx.data(weight_B)

  def __call__(self, x: jax.Array) -> jax.Array:
    """x W + c."""
    kernel_IO = self.params['kernel']
    bias_O = self.params.get('bias', jnp.zeros(kernel_IO.shape[1], kernel_IO.dtype))
    rows = x.shape[0]
    x_BLI = x.reshape(rows, -1, x.shape[-1]).astype(kernel_IO.dtype)
    weight_B = jnp.ones(rows) if self.weight_B is None else self.weight_B
    y_BLO = row_weighted_linear(x_BLI, kernel_IO, bias_O, weight_B)
    return y_BLO.reshape(*x.shape[:-1], -1)
