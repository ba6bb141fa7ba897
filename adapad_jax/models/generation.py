"""Text generation with a decoder: greedy or sampled, batched, in one program."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.models.cache import Cache
from adapad_jax.models.decoder import DecoderModel, last_token
from adapad_jax.models.split import agreed


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How the next token is chosen.

  Attributes:
    temperature: divides the logits; 0 takes the likeliest token.
    top_k: only the k likeliest tokens, 0 for all.
    top_p: only the likeliest tokens that together reach this probability.

  Raises:
    ValueError: for a negative temperature or top_k, or top_p outside (0, 1].
  """

  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0

  def __post_init__(self) -> None:
    if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
      raise ValueError(
        f'{self}: needs temperature >= 0, top_k >= 0 and top_p in (0, 1]'
      )


GREEDY = Sampling()


@dataclasses.dataclass(frozen=True)
class Budget:
  """When generation ends.

  Attributes:
    tokens: most new tokens per row.
    stop_ids: a row ends after the first of these it produces.
    pad_id: fills the rest of a row that ended.

  Raises:
    ValueError: for fewer than one token.
  """

  tokens: int
  stop_ids: tuple[int, ...] = ()
  pad_id: int = 0

  def __post_init__(self) -> None:
    if self.tokens < 1:
      raise ValueError(f'cannot generate {self.tokens} tokens; choose at least one')


def generate(
  model: DecoderModel,
  batch: dict[str, jax.Array],
  budget: Budget,
  sampling: Sampling = GREEDY,
  keys_B: jax.Array | None = None,
) -> jax.Array:
  """Continues every row of a batch of prompts.

  Compiles once per shape of the batch, budget and sampling. A row depends on its own
  prompt and key alone.

  Args:
    model: with a 'lm' head.
    batch: 'ids_BL' and 'mask_BL', padded on either side.
    budget: when to stop.
    sampling: greedy unless told otherwise.
    keys_B: one PRNG key per row; needed if the temperature is not zero.

  Returns:
    (B, budget.tokens) new tokens, the stop token included.

  Raises:
    ValueError: if the model has another head, a row has no token, keys are missing,
      or prompt and budget together exceed the model's longest input.
  """
  if model.head.kind != 'lm':
    raise ValueError(f"generation needs a 'lm' head, the model has {model.head.kind!r}")
  if sampling.temperature > 0 and keys_B is None:
    raise ValueError('sampling needs keys_B, one PRNG key per row')
  longest = int(jnp.max(jnp.sum(batch['mask_BL'], axis=1))) + budget.tokens
  if longest > model.config.max_length:
    raise ValueError(
      f'prompt and new tokens take {longest} positions, the model has'
      f' {model.config.max_length}'
    )
  if not bool(jnp.all(jnp.any(batch['mask_BL'] > 0, axis=1))):
    raise ValueError('every prompt needs at least one token')
  graph, state = nnx.split(model)
  prompt = {name: jnp.asarray(batch[name]) for name in ('ids_BL', 'mask_BL')}
  return _generate(graph, budget, sampling, state, prompt, keys_B)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(
  graph: Any,
  budget: Budget,
  sampling: Sampling,
  state: Any,
  prompt: dict[str, jax.Array],
  keys_B: jax.Array | None,
) -> jax.Array:
  model = nnx.merge(graph, state)
  reading = read(model, prompt, budget.tokens - 1)
  return extend(model, reading, budget, sampling, keys_B)[0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reading:
  """Prompts that a model has read, to be continued any number of times.

  Attributes:
    last_BD: states of the last tokens.
    cache: keys and values of all tokens, with room for more.
    empty_B: whether a row has no token, as those that pad a batch.
  """

  last_BD: jax.Array
  cache: Cache
  empty_B: jax.Array


def read(model: DecoderModel, prompt: Mapping[str, jax.Array], room: int) -> Reading:
  """Reads 'ids_BL' and 'mask_BL', leaving room for so many more tokens."""
  rows, length = prompt['ids_BL'].shape
  cache = model.model.empty_cache(rows, length + room)
  hidden_BLD, cache = model.model(prompt, cache=cache)
  last_BD = last_token(hidden_BLD, prompt['mask_BL'])
  return Reading(last_BD, cache, ~jnp.any(prompt['mask_BL'] > 0, axis=1))


def extend(
  model: DecoderModel,
  reading: Reading,
  budget: Budget,
  sampling: Sampling = GREEDY,
  keys_B: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Continues prompts inside a compiled function; arguments as for `generate`.

  The reading has room for budget.tokens - 1 tokens.

  Returns:
    (B, budget.tokens) new tokens, and their log-probability (B,) under the model,
    the stop token's included. Rows without a prompt get padding.
  """

  def say(
    step: jax.Array,
    new_BT: jax.Array,
    score_B: jax.Array,
    done_B: jax.Array,
    last_BD: jax.Array,
  ) -> tuple[jax.Array, ...]:
    """Adds the token of a step, which the states of the last ones tell."""
    keys = None if keys_B is None else _fold(keys_B, step)
    logits_BV = model.token_logits(last_BD[:, None])[:, 0]
    token_B = jnp.where(done_B, budget.pad_id, choose(logits_BV, sampling, keys))
    score_B += jnp.where(done_B, 0.0, _log_probability(logits_BV, token_B))
    new_BT = jax.lax.dynamic_update_slice(new_BT, token_B[:, None], (0, step))
    for stop in budget.stop_ids:
      done_B |= token_B == stop
    return new_BT, score_B, done_B

  def unfinished(carry: tuple) -> jax.Array:
    step, _, _, done_B, _ = carry
    return (step < budget.tokens) & ~agreed(model, jnp.all(done_B))

  def step_on(carry: tuple) -> tuple:
    step, new_BT, score_B, done_B, cache = carry
    heard = {
      'ids_BL': jax.lax.dynamic_slice_in_dim(new_BT, step - 1, 1, axis=1),
      'mask_BL': (~done_B).astype(jnp.int32)[:, None],
    }
    hidden_BLD, cache = model.model(heard, cache=cache)
    said = say(step, new_BT, score_B, done_B, hidden_BLD[:, 0])
    return step + 1, *said, cache

  rows = len(reading.last_BD)
  new_BT = jnp.full((rows, budget.tokens), budget.pad_id, jnp.int32)
  score_B = jnp.zeros(rows, jnp.float32)
  # A token is read when another one is to follow: the last one never is.
  said = say(jnp.int32(0), new_BT, score_B, reading.empty_B, reading.last_BD)
  start = (jnp.int32(1), *said, reading.cache)
  found = jax.lax.while_loop(unfinished, step_on, start)
  return found[1], found[2]


def log_probability(
  model: DecoderModel, reading: Reading, ids_BT: jax.Array, mask_BT: jax.Array
) -> jax.Array:
  """Log-probability (B,) that the prompts go on with these tokens.

  Args:
    model: with a 'lm' head.
    reading: with room for T - 1 tokens.
    ids_BT: the tokens.
    mask_BT: 1 for tokens that count; a row's first ones.
  """
  states_BTD = reading.last_BD[:, None]
  if ids_BT.shape[1] > 1:
    heard = {'ids_BL': ids_BT[:, :-1], 'mask_BL': mask_BT[:, :-1]}
    hidden_BTD, _ = model.model(heard, cache=reading.cache)
    states_BTD = jnp.concatenate([states_BTD, hidden_BTD], axis=1)
  score_BT = _log_probability(model.token_logits(states_BTD), ids_BT)
  return jnp.sum(jnp.where(mask_BT > 0, score_BT, 0.0), axis=1)


def _log_probability(logits: jax.Array, token: jax.Array) -> jax.Array:
  """Of one token each; logits have one axis more, the last."""
  chosen = jnp.take_along_axis(logits, token[..., None], axis=-1)[..., 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)


def row_keys(seed: int, number_B: jax.Array) -> jax.Array:
  """A PRNG key for each row, from a seed and the row's number."""
  key = jax.random.key(seed)
  return jax.vmap(lambda number: jax.random.fold_in(key, number))(number_B)


def _fold(keys_B: jax.Array, step: jax.Array) -> jax.Array:
  return jax.vmap(lambda key: jax.random.fold_in(key, step))(keys_B)


def choose(
  logits_BV: jax.Array, sampling: Sampling, keys_B: jax.Array | None
) -> jax.Array:
  """Next token (B,) of every row."""
  if sampling.temperature == 0:
    return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
  logits_BV = restrict(logits_BV / sampling.temperature, sampling)
  return jax.vmap(jax.random.categorical)(keys_B, logits_BV).astype(jnp.int32)


def restrict(logits_BV: jax.Array, sampling: Sampling) -> jax.Array:
  """Sets the logits of the tokens that top_k and then top_p exclude to -inf."""
  if sampling.top_k:
    k = min(sampling.top_k, logits_BV.shape[-1])
    least_B1 = jax.lax.top_k(logits_BV, k)[0][:, -1:]
    logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
  if sampling.top_p < 1:
    sorted_BV = -jnp.sort(-logits_BV, axis=-1)
    probs_BV = jax.nn.softmax(sorted_BV, axis=-1)
    likelier_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV
    kept_BV = jnp.where(likelier_BV < sampling.top_p, sorted_BV, jnp.inf)
    least_B1 = jnp.min(kept_BV, axis=-1, keepdims=True)
    logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
  return logits_BV
