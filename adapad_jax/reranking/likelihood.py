"""How errors of a layer move a language model's distribution of the next token.

With tokens y drawn from the model's own distribution p, the gradient g of log p(y) in a
layer's output has E[g g^T] = F, the Fisher information, and an error E of the layer's
weight costs

    KL(p || p_E) ~ 1/2 E (g^T E^T x)^2

(Martens 2020, arXiv:1412.1193). Nothing but text is needed: no token of it
is taken for the right one. Axes: N positions, C of a chunk, D of a state.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.models.unembedding import Unembedding

# Logits that are in memory at once: 64 MB in float32.
_LOGITS = 2**24


def drawn_likelihood(
  model: Any, batch: Mapping[str, jax.Array], key: jax.Array
) -> jax.Array:
  """sum_n log p(y_n) over tokens y_n that are drawn from p at every position.

  To be differentiated in what the states depend on; the head stands still. Positions
  count that predict a learned token, or, where the batch does not say, any token.

  Args:
    model: with a 'lm' head.
    batch: 'ids_BL' and 'mask_BL', where there are any also 'learned_BL' and
      'segments_BL'.
    key: of the draws.
  """
  hidden_BLD, _ = model.model(batch)
  states_ND = hidden_BLD[:, :-1].reshape(-1, hidden_BLD.shape[-1])
  slope_ND = _slopes(model.unembedding(), jax.lax.stop_gradient(states_ND), key)
  counts_BL = batch.get('learned_BL', batch['mask_BL'])[:, 1:] > 0
  counts_BL &= batch['mask_BL'][:, :-1] > 0
  by_position_N = jnp.sum(slope_ND * states_ND.astype(jnp.float32), axis=1)
  return jnp.sum(jnp.where(counts_BL.ravel(), by_position_N, 0.0))


def _slopes(head: Unembedding, states_ND: jax.Array, key: jax.Array) -> jax.Array:
  """d log p(y) / d state of every position, (N, D): U^T (1_y - p)."""
  positions, features = states_ND.shape
  size = max(min(_LOGITS // head.vocabulary, positions), 1)
  chunks = -(-positions // size)
  place_KC = jnp.arange(chunks * size).reshape(chunks, size)
  states_KCD = jnp.pad(states_ND, ((0, chunks * size - positions), (0, 0)))
  states_KCD = states_KCD.reshape(chunks, size, features)

  def of_chunk(given: tuple[jax.Array, jax.Array]) -> jax.Array:
    place_C, states_CD = given
    logits_CV, pull = jax.vjp(head, states_CD)
    keys_C = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, place_C)
    drawn_C = jax.vmap(jax.random.categorical)(keys_C, logits_CV)
    is_drawn_CV = jax.nn.one_hot(drawn_C, head.vocabulary, dtype=logits_CV.dtype)
    return pull(is_drawn_CV - jax.nn.softmax(logits_CV))[0].astype(jnp.float32)

  slope_KCD = jax.lax.map(of_chunk, (place_KC, states_KCD))
  return slope_KCD.reshape(-1, features)[:positions]
