"""A conversation with a saved run's decoder: one row, whose cache lives on.

The tokens of a turn are those of the whole conversation so far, rendered by the
template. Of these the cache keeps what it has read before, and reads the rest in
chunks of a few fixed lengths. So one program is compiled for each of those lengths,
whatever is said and however much of the update is used.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.lowrank import Deployed
from adapad_jax.models.cache import Cache
from adapad_jax.models.generation import choose
from adapad_jax.sharding import put, specs_of
from adapad_jax.training.completions import Answering, Decoding
from adapad_jax.training.plan import Plan

# Lengths in which text is read; the first is a token that has just been said.
CHUNKS = (1, 16, 64, 256)
# A cache of all positions of a large model would not fit.
_MOST_POSITIONS = 4096


class Full(ValueError):
  """A conversation has no room for an answer."""


class Talker:
  """Answers token by token.

  Args:
    run: whose update is used.
    decoding: how tokens are drawn; a fresh seed gives the same answers.
    max_rank, budget: how the update is cut, see `SavedRun.evaluate`.
  """

  def __init__(
    self, run: Answering, decoding: Decoding, max_rank: int = 0, budget: int = 0
  ) -> None:
    self._run, self._decoding = run, decoding
    self.room = min(run.session.pretrained.config.max_length, _MOST_POSITIONS)
    self._ids: list[int] = []
    self._drawn = 0
    with jax.set_mesh(run.plan.mesh):
      self._hear = _compiled(run.plan, decoding)
      self._cache = _empty(run, self.room + CHUNKS[-1])
      self._seed = put(np.uint32(decoding.seed % 2**32))
    self.use(max_rank, budget)

  def use(self, max_rank: int, budget: int = 0) -> None:
    """Cuts the whole update, see `SavedRun.evaluate`; nothing is compiled.

    Raises:
      ValueError: if it has no components, both are given, or one is negative.
    """
    with jax.set_mesh(self._run.plan.mesh):
      self._deployed, prefix = self._run.cut(max_rank, budget)
      self._prefix = put(np.int32(prefix))
    # What was read with another update has other keys and values.
    self._ids = []

  def answer(self, prompt_ids: Sequence[int]) -> Iterator[int]:
    """The tokens of an answer, the one that ends it included, as they are drawn.

    Raises:
      Full: if the prompt leaves no room.
    """
    prompt = [int(token) for token in prompt_ids]
    stop_ids, room = self._run.plan.task.chat.stop_ids, self.room - len(prompt)
    if room < 1:
      raise Full(
        f'the conversation has {len(prompt)} tokens, and there is room for {self.room}'
      )
    token = self._read(prompt)
    for count in range(1, min(self._decoding.max_new_tokens, room) + 1):
      yield token
      if token in stop_ids or count == min(self._decoding.max_new_tokens, room):
        return
      token = self._read([*self._ids, token])

  def _read(self, ids: list[int]) -> int:
    """Reads what is new of a text; the token that is drawn behind it."""
    same = len(os.path.commonprefix([self._ids, ids[:-1]]))
    # Until all is read, what is in the cache is not known if this is interrupted.
    self._ids, place, token = ids[:same], same, 0
    with jax.set_mesh(self._run.plan.mesh):
      while place < len(ids):
        part = ids[place : place + CHUNKS[-1]]
        length = next(size for size in CHUNKS if size >= len(part))
        padded = np.zeros((1, length), np.int32)
        padded[0, : len(part)] = part
        token, self._cache = self._hear(
          self._run.session.params,
          self._deployed,
          self._prefix,
          self._cache,
          put((padded, np.int32(place), np.int32(len(part)))),
          self._seed,
          put(np.int32(self._drawn)),
        )
        place += len(part)
        self._ids = ids[:place]
      self._drawn += 1
      return int(jax.device_get(token)[0])


def _empty(run: Answering, slots: int) -> Cache:
  """A cache on every device."""
  model = run.session.pretrained.model
  return put(model.model.empty_cache(1, slots))


def _compiled(plan: Plan, decoding: Decoding) -> Callable[..., tuple[Any, Cache]]:
  """(params, deployed, prefix, cache, text, seed, number) -> (token, cache).

  The text is ids (1, L), the slot in which they start, and how many of them count.
  Every device computes the same.
  """

  def hear(
    params: Any,
    deployed: Deployed,
    prefix: jax.Array,
    cache: Cache,
    text: tuple[jax.Array, jax.Array, jax.Array],
    seed: jax.Array,
    number: jax.Array,
  ) -> tuple[jax.Array, Cache]:
    ids_BL, first, count = text
    deltas = deployed.deltas(plan.modules, 1, prefix)
    model = plan.attachment(deployed.backbone(params), deltas, deployed.head)
    # Slots from the first one on are free again.
    kept_M = jnp.arange(cache.mask_BM.shape[1]) < first
    cache = Cache(
      cache.keys, cache.values, jnp.where(kept_M[None], cache.mask_BM, 0), first
    )
    mask_BL = (jnp.arange(ids_BL.shape[1]) < count).astype(jnp.int32)[None]
    heard = {'ids_BL': ids_BL, 'mask_BL': mask_BL}
    hidden_BLD, cache = model.model(heard, cache=cache)
    last_BD = jax.lax.dynamic_slice_in_dim(hidden_BLD, count - 1, 1, axis=1)[:, 0]
    logits_BV = model.token_logits(last_BD[:, None])[:, 0]
    keys_B = jax.random.fold_in(jax.random.key(seed), number)[None]
    return choose(logits_BV, decoding.sampling, keys_B), cache

  def on_devices(params: Any, *others: Any) -> tuple[jax.Array, Cache]:
    every = tuple(jax.P() for _ in others)
    return jax.shard_map(
      hear,
      mesh=plan.mesh,
      in_specs=(specs_of(params), *every),
      out_specs=jax.P(),
      check_vma=False,
    )(params, *others)

  return jax.jit(on_devices, donate_argnums=3)


class Stream:
  """Text of tokens as they come, never a part of a character, and never a stop text.

  Args:
    decode: tokens to text.
    stop: texts that end the answer.
  """

  def __init__(
    self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()
  ) -> None:
    self._decode, self._stop = decode, tuple(filter(None, stop))
    self._ids: list[int] = []
    self._start = 0  # Of the tokens that are decoded together.
    self._shown = ''  # What these have given so far.
    self._held = ''  # Text that may become a stop text.
    self.text = ''
    self.ended = False

  def push(self, token: int) -> str:
    """What can be shown once a token has come."""
    self._ids.append(token)
    whole = self._decode(self._ids[self._start :])
    if whole.endswith('\ufffd'):
      return ''
    new = whole[len(self._shown) :]
    self._shown, last = whole, self._decode(self._ids[-1:])
    if '\ufffd' not in last:
      # Decoded with the one before it, a token keeps the blank that it starts with. One
      # that is a part of a character stays with the rest of it.
      self._start, self._shown = len(self._ids) - 1, last
    return self._show(self._held + new)

  def flush(self) -> str:
    """What is left at the end, a part of a character included."""
    whole = self._decode(self._ids[self._start :])
    new, self._held = self._held + whole[len(self._shown) :], ''
    self._shown = whole
    if self.ended:
      return ''
    self.text += new
    return new

  def _show(self, text: str) -> str:
    places = [place for end in self._stop if (place := text.find(end)) >= 0]
    if places:
      self.ended, text, self._held = True, text[: min(places)], ''
    else:
      self._held = max(
        (
          text[-n:]
          for end in self._stop
          for n in range(1, len(end))
          if len(text) >= n and end.startswith(text[-n:])
        ),
        key=len,
        default='',
      )
      text = text[: len(text) - len(self._held)]
    self.text += text
    return text
