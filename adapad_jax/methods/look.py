"""What a start may be made of: sums over a few batches, before the first round.

A method with `looks` above zero is shown so many batches, those that training begins
with, and makes its start of what it finds in them; of rounds that have several, the
first of each. Nothing trains meanwhile, so the head is as it was given.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.collectives import all_reduce
from adapad_jax.lowrank import LowRank, along_gradient
from adapad_jax.problem import Problem
from adapad_jax.sharding import row_axes, specs_of
from adapad_jax.train_step import sum_by_parts


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


def look_over(
  mesh: jax.sharding.Mesh,
  problem: Problem,
  observe: Callable[..., Any],
  state_specs: Callable[[Any], Any],
) -> Callable[..., Any]:
  """The jitted (state, model, batch, number of the look) -> sums over the batch's rows.

  Args:
    mesh: the devices; blocks of workers, if there are any, have the same rows.
    problem: whose parts of a batch are computed one after the other.
    observe: (model, head, rows, keys_B) -> sums over rows.
    state_specs: partition specs of a state.
  """
  spread = row_axes(mesh)

  def body(state: Any, model: Any, batch: Any, number: jax.Array) -> Any:
    noise = jax.random.fold_in(state.noise(), number)
    rows = rows_of_device(noise, spread, batch)
    of_rows = lambda part: observe(model, state.head, *part)
    return all_reduce(sum_by_parts(of_rows, rows, problem.accumulate), spread)

  def run(state: Any, model: Any, batch: Any, number: jax.Array) -> Any:
    specs = state_specs(state), specs_of(model), jax.P(None, spread), jax.P()
    return jax.shard_map(
      body, mesh=mesh, in_specs=specs, out_specs=jax.P(), check_vma=False
    )(state, model, batch, number)

  return jax.jit(run)


def rows_of_device(
  noise: jax.Array, spread: tuple[str, ...], batch: Any
) -> tuple[Any, jax.Array]:
  """This device's rows of a batch, and the key of the noise of each."""
  batch = jax.tree.map(lambda x: x[0], batch)
  rows = len(jax.tree.leaves(batch)[0])
  # Row i of shard d is row g = i shards + d of the batch: noise by g is the same on
  # every mesh.
  shards = jax.lax.axis_size(spread)
  row_g = jnp.arange(rows) * shards + jax.lax.axis_index(spread)
  return batch, jax.vmap(jax.random.fold_in, in_axes=(None, 0))(noise, row_g)


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


def steepest(
  updates: dict[str, LowRank], gradient_of: dict[str, jax.Array]
) -> dict[str, LowRank]:
  """The same updates with input directions along each module's gradient."""
  return {
    name: LowRank(along_gradient(gradient_of[name], update.a_RI), update.b_RO)
    for name, update in updates.items()
  }


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
  """Sums over the inputs x of a module.

  Attributes:
    square_II: of x x^T.
    sum_I: of x.
    count: of how many.
  """

  square_II: jax.Array
  sum_I: jax.Array
  count: jax.Array


@jax.custom_vjp
def recorded(
  x_BNI: jax.Array, y_BNO: jax.Array, weight_BN: jax.Array, moments: Moments
) -> jax.Array:
  """y itself; the cotangent of `moments` is those of the inputs, weighted."""
  return y_BNO


def _forward(x_BNI, y_BNO, weight_BN, moments):  # noqa: ANN001, ANN202
  return y_BNO, (x_BNI, weight_BN)


def _backward(saved, dy_BNO):  # noqa: ANN001, ANN202
  x_BNI, weight_BN = saved
  wide_BNI = x_BNI.astype(jnp.float32)
  found = Moments(
    jnp.einsum('bn,bni,bnj->ij', weight_BN, wide_BNI, wide_BNI),
    jnp.einsum('bn,bni->i', weight_BN, wide_BNI),
    jnp.sum(weight_BN),
  )
  return jnp.zeros_like(x_BNI), dy_BNO, None, found


recorded.defvjp(_forward, _backward)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recorder:
  """Stands where an update does and changes nothing; sees what a module is given.

  Attributes:
    weight_BL: of every token; where a module is given something else than tokens, every
      row with a token counts.
    moments: zeros, whose gradient is the moments of the inputs, whatever the loss.
    outputs: features of the module's output.
  """

  weight_BL: jax.Array
  moments: Moments
  outputs: int = dataclasses.field(metadata={'static': True})

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns zeros of the output's shape."""
    rows, length = self.weight_BL.shape
    x_BNI = x.reshape(rows, -1, x.shape[-1])
    weight_BN = self.weight_BL
    if x_BNI.shape[1] != length:
      weight_BN = jnp.max(self.weight_BL, axis=1, keepdims=True)
    weight_BN = jnp.broadcast_to(weight_BN, x_BNI.shape[:2])
    y_BNO = jnp.zeros((*x_BNI.shape[:2], self.outputs), x.dtype)
    y_BNO = recorded(x_BNI, y_BNO, weight_BN, self.moments)
    return y_BNO.reshape(*x.shape[:-1], self.outputs)

  def broadcast(self, p_KI: jax.Array) -> jax.Array:
    """The same for a table that all rows share, which counts once for every row."""
    rows = self.weight_BL.shape[0]
    return self(jnp.broadcast_to(p_KI, (rows, *p_KI.shape)))


def token_weights(batch: Any, rows: int) -> jax.Array:
  """1 for tokens that are no padding and, in answers, learned: (B, L).

  A batch without `mask_BL` counts every input: (B, 1).
  """
  mask_BL = jnp.asarray(batch.get('mask_BL', np.ones((rows, 1)))) > 0
  if 'learned_BL' in batch:
    mask_BL &= batch['learned_BL'] > 0
  return mask_BL.astype(jnp.float32)


def input_moments(
  problem: Problem, model: Any, head: Any, batch: Any, keys_B: jax.Array
) -> dict[str, Moments]:
  """Moments of the inputs of every adapted module, see `token_weights`."""
  weight_BL = token_weights(batch, len(keys_B))
  zeros = {
    name: Moments(jnp.zeros((wide, wide)), jnp.zeros(wide), jnp.zeros(()))
    for name, (wide, _) in problem.shapes.items()
  }

  def total(moments: dict[str, Moments]) -> jax.Array:
    deltas = {
      name: Recorder(weight_BL, one, problem.shapes[name][1])
      for name, one in moments.items()
    }
    return jnp.sum(problem.loss(model, head, deltas, None, batch, keys_B)[0])

  return jax.grad(total)(zeros)
