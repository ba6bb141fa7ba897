"""What a start may be made of: sums over a few batches, before the first round.

A method with `looks` above zero is shown so many batches, those that training begins
with, and makes its start of what it finds in them. Nothing trains meanwhile, so the
head is as it was given.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.problem import Problem


def informed(
  looks: int,
  look: Callable[..., Any],
  inform: Callable[[Any, Any], Any],
  state: Any,
  model: Any,
  batch_of: Callable[[int], Any],
) -> Any:
  """The state whose start is made of the first batches.

  Args:
    looks: how many; 0 leaves the state as it is.
    look: (state, model, batch, number) -> sums over the batch.
    inform: (state, sums over all of them) -> state.
    state: before the first round, on the devices.
    model: frozen parameters.
    batch_of: the batches of the round after so many.
  """
  if not looks:
    return state
  total = look(state, model, batch_of(0), np.int32(0))
  for number in range(1, looks):
    total = _add(total, look(state, model, batch_of(number), np.int32(number)))
  return inform(state, total)


@jax.jit
def _add(total: Any, more: Any) -> Any:
  return jax.tree.map(jnp.add, total, more)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Whole:
  """A whole matrix as a module's update; the gradient in it is dL / d Delta W.

  Attributes:
    weight_IO: the update.
  """

  weight_IO: jax.Array

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns x Delta W, computed in float32, so that its gradient is too."""
    wide = x.astype(jnp.float32)
    return jnp.einsum('...i,io->...o', wide, self.weight_IO).astype(x.dtype)

  def broadcast(self, p_KI: jax.Array) -> jax.Array:
    """Returns p Delta W for a table p that all rows share: (1, K, O)."""
    return self(p_KI)[None]


def gradients(
  problem: Problem, model: Any, head: Any, batch: Any, keys_B: jax.Array
) -> dict[str, jax.Array]:
  """G = dL / dW of every adapted module, (I, O), of the loss summed over rows."""
  zeros = {name: jnp.zeros(shape) for name, shape in problem.shapes.items()}

  def total(updates: dict[str, jax.Array]) -> jax.Array:
    deltas = {name: Whole(w_IO) for name, w_IO in updates.items()}
    return jnp.sum(problem.loss(model, head, deltas, None, batch, keys_B)[0])

  return jax.grad(total)(zeros)
