"""Cross-entropy of the tokens that are learned, without logits of all positions.

With a vocabulary of 150,000 the logits (B, L, V) of a batch are its largest array by
far, and most positions of a chat are not learned. Here positions that are learned come
first, and go through the head in chunks; as many chunks as they fill are computed, so
an array (chunk, V) is the largest there is. The gradient by the states is a by-product
of the same pass: with l = logsumexp(z) - z_y and z = U h it is U^T (softmax(z) - 1_y),
which needs no more than the logits that are at hand. A frozen head so costs two
products a learned token; one that is trained is gone through again in the backward
pass.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.models.unembedding import Unembedding
from adapad_jax.tasks.task import Batch

# Logits that are in memory at once: 256 MB in float32.
_LOGITS = 2**26
_PARTS, _LEAST = 8, 128


def chunk_size(vocabulary: int, positions: int) -> int:
  """Positions of a chunk, a power of two: few enough for memory, and for what is saved.

  The last chunk is computed whole, so with an eighth of the positions in each at most
  that share of the work is wasted.
  """
  most = max(min(_LOGITS // vocabulary, positions // _PARTS), 1)
  return max(2 ** (most.bit_length() - 1), _LEAST)


def token_loss(
  model: Any, batch: Batch, keys_B: jax.Array | None, chunk: int = 0
) -> tuple[jax.Array, jax.Array]:
  """Summed cross-entropy of each row's learned tokens, in nats, and their number.

  Args:
    model: with a 'lm' head.
    batch: 'ids_BL', 'mask_BL', 'learned_BL' and, of packed rows, 'segments_BL'.
    keys_B: see `Task.loss`.
    chunk: positions that go through the head at once; 0 chooses.
  """
  states_ND, target_N, learned_N = _positions(model, batch, keys_B)
  unembedding = model.unembedding()
  chunk = chunk or chunk_size(unembedding.vocabulary, len(target_N))
  rows = len(batch['ids_BL'])
  loss_N = _losses(chunk, unembedding, states_ND, target_N, learned_N)
  by_row = lambda x_N: jnp.sum(x_N.reshape(rows, -1), axis=1)
  return by_row(loss_N), by_row(learned_N.astype(jnp.float32))


def predict_tokens(model: Any, batch: Batch, chunk: int = 0) -> dict[str, jax.Array]:
  """Of each row: 'loss_B' as `token_loss`, 'tokens_B' and how many it has right.

  A token is right, 'right_B', if it is the likeliest one.
  """
  states_ND, target_N, learned_N = _positions(model, batch, None)
  unembedding = model.unembedding()
  chunk = chunk or chunk_size(unembedding.vocabulary, len(target_N))
  rows = len(batch['ids_BL'])

  def of_chunk(states_CD: jax.Array, target_C: jax.Array) -> tuple[jax.Array, ...]:
    logits_CV = unembedding(states_CD)
    right_C = jnp.argmax(logits_CV, axis=1) == target_C
    return _cross_entropy(logits_CV, target_C), right_C.astype(jnp.float32)

  found = _in_chunks(chunk, of_chunk, states_ND, target_N, learned_N)
  by_row = lambda x_N: jnp.sum(x_N.reshape(rows, -1), axis=1)
  loss_B, right_B = map(by_row, found)
  tokens_B = by_row(learned_N.astype(jnp.float32))
  return {'loss_B': loss_B, 'tokens_B': tokens_B, 'right_B': right_B}


def _positions(
  model: Any, batch: Batch, keys_B: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """States of all positions but the last ones, the token behind each, and its mask.

  The first token of a document is never learned, so none is predicted from another's.
  """
  hidden_BLD, _ = model.model(batch, keys_B)
  states_ND = hidden_BLD[:, :-1].reshape(-1, hidden_BLD.shape[-1])
  target_N = batch['ids_BL'][:, 1:].reshape(-1)
  return states_ND, target_N, batch['learned_BL'][:, 1:].reshape(-1) > 0


def _cross_entropy(logits_CV: jax.Array, target_C: jax.Array) -> jax.Array:
  chosen_C = jnp.take_along_axis(logits_CV, target_C[:, None], axis=1)[:, 0]
  return jax.nn.logsumexp(logits_CV, axis=1) - chosen_C


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _losses(
  chunk: int,
  unembedding: Unembedding,
  states_ND: jax.Array,
  target_N: jax.Array,
  learned_N: jax.Array,
) -> jax.Array:
  """Cross-entropy (N,) of learned positions, zero elsewhere."""

  def of_chunk(states_CD: jax.Array, target_C: jax.Array) -> tuple[jax.Array]:
    return (_cross_entropy(unembedding(states_CD), target_C),)

  return _in_chunks(chunk, of_chunk, states_ND, target_N, learned_N)[0]


def _forward(
  chunk: int, unembedding: Any, states_ND: Any, target_N: Any, learned_N: Any
) -> tuple[jax.Array, Any]:
  """Losses, and their gradients by the states while the logits are there."""
  matrix = unembedding.matrix
  head = Unembedding(matrix.value, unembedding.tied, unembedding.dtype)

  def of_chunk(states_CD: jax.Array, target_C: jax.Array) -> tuple[jax.Array, ...]:
    loss = lambda x_CD: _cross_entropy(head(x_CD), target_C)
    loss_C, pull = jax.vjp(loss, states_CD)
    return loss_C, pull(jnp.ones_like(loss_C))[0]

  values = states_ND.value, target_N.value, learned_N.value
  loss_N, slope_ND = _in_chunks(chunk, of_chunk, *values)
  # What a frozen matrix's gradient would need is not kept.
  return loss_N, (slope_ND, (head, *values) if matrix.perturbed else None)


def _backward(chunk: int, saved: Any, grad_N: jax.Array) -> tuple[Any, ...]:
  slope_ND, trained = saved
  states = (slope_ND * grad_N[:, None]).astype(slope_ND.dtype)
  if trained is None:
    return None, states, None, None
  head, states_ND, target_N, learned_N = trained

  def of_chunk(total: Any, at_C: jax.Array, valid_C: jax.Array) -> Any:
    loss = lambda head: _cross_entropy(head(states_ND[at_C]), target_N[at_C])
    _, pull = jax.vjp(loss, head)
    (grad,) = pull(jnp.where(valid_C, grad_N[at_C], 0.0))
    return jax.tree.map(jnp.add, total, grad)

  zeros = jax.tree.map(jnp.zeros_like, head)
  return _over_chunks(chunk, of_chunk, zeros, learned_N), states, None, None


_losses.defvjp(_forward, _backward, symbolic_zeros=True)


def _in_chunks(
  chunk: int,
  of_chunk: Callable[[jax.Array, jax.Array], tuple[jax.Array, ...]],
  states_ND: jax.Array,
  target_N: jax.Array,
  learned_N: jax.Array,
) -> tuple[jax.Array, ...]:
  """`of_chunk`(states_CD, target_C) at learned positions, zeros elsewhere."""
  size = min(chunk, len(target_N))
  shapes = jax.eval_shape(of_chunk, states_ND[:size], target_N[:size])
  zeros = tuple(jnp.zeros((len(target_N), *s.shape[1:]), s.dtype) for s in shapes)

  def add(totals: Any, at_C: jax.Array, valid_C: jax.Array) -> Any:
    found = of_chunk(states_ND[at_C], target_N[at_C])
    select = lambda x: jnp.where(valid_C.reshape(-1, *[1] * (x.ndim - 1)), x, 0)
    # Places behind the last one repeat others, and add nothing to them.
    return tuple(
      total.at[at_C].add(select(x).astype(total.dtype))
      for total, x in zip(totals, found, strict=True)
    )

  return _over_chunks(chunk, add, zeros, learned_N)


def _over_chunks(
  chunk: int,
  step: Callable[[Any, jax.Array, jax.Array], Any],
  start: Any,
  learned_N: jax.Array,
) -> Any:
  """Threads a value through step(value, positions_C, valid_C), learned positions first.

  As many chunks are gone through as the learned positions fill.
  """
  size = min(chunk, len(learned_N))
  order_N = jnp.argsort(~learned_N, stable=True)
  count = jnp.sum(learned_N)

  def body(number: jax.Array, value: Any) -> Any:
    place_C = number * size + jnp.arange(size)
    at_C = order_N[jnp.minimum(place_C, len(learned_N) - 1)]
    return step(value, at_C, place_C < count)

  return jax.lax.fori_loop(0, -(-count // size), body, start)
