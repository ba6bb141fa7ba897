"""Next-token logits from hidden states: what is on top of a language model."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.models.products import dense_dot_general, token_product


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Unembedding:
  """Token logits as a function of states, apart from the model that has it.

  A matrix that is divided over devices is gathered when this is made, so that it can be
  used inside a loop that not every device goes through as often.

  Attributes:
    matrix: the table (V, D) of a tied model, or the kernel (D, V) of a head.
    tied: which of the two it is.
    dtype: of the product with a head's kernel.
  """

  matrix: jax.Array
  tied: bool = dataclasses.field(metadata={'static': True})
  dtype: Any = dataclasses.field(metadata={'static': True})

  @property
  def vocabulary(self) -> int:
    """V."""
    return self.matrix.shape[0 if self.tied else 1]

  def __call__(self, states: jax.Array) -> jax.Array:
    """Logits (..., V) in float32 of states (..., D)."""
    if self.tied:
      return token_product(states, self.matrix)
    product = dense_dot_general(self.dtype, jax.default_backend())
    axes = ((states.ndim - 1,), (0,)), ((), ())
    narrow = states.astype(self.dtype), self.matrix.astype(self.dtype)
    return product(*narrow, axes).astype(jnp.float32)
