"""Texts and pairs of texts to token arrays of one fixed length."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.table import Table

_CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Tokens:
  """Token arrays, padded on the right.

  Attributes:
    columns: 'ids_BL' and 'mask_BL', and 'types_BL' if the tokenizer has segments.
    truncated: number of rows that did not fit.
  """

  columns: dict[str, np.ndarray]
  truncated: int


def check_length(
  tokenizer: Any, max_length: int, max_positions: int | None = None
) -> None:
  """Checks a row length against the tokenizer's and the model's maximum.

  Raises:
    ValueError: if it is above either, or the tokenizer is not a fast one.
  """
  if not tokenizer.is_fast:
    raise ValueError(
      f'{type(tokenizer).__name__} is a slow tokenizer; a fast one (tokenizer.json)'
      ' is needed'
    )
  # A tokenizer that knows no maximum says 1e30.
  own = tokenizer.model_max_length
  limit = min(own, max_positions or own)
  if max_length > limit:
    whose = ''
    if max_positions and own < 1e9 and own != max_positions:
      whose = f' (of its positions {max_positions}, of its tokenizer {own})'
    raise ValueError(
      f"data.max_length={max_length} is above the model's maximum of {limit} tokens"
      f'{whose}'
    )


def check_vocabulary(tokenizer: Any, config: Any) -> None:
  """Checks that a model embeds whatever a tokenizer may say, and pads alike.

  A token beyond the embedding would be read as NaN.

  Args:
    tokenizer: a fast `transformers` tokenizer.
    config: the model family's: `vocab_size`, and for families that count positions
      from the padding on, `position_offset` and `pad_token_id`.

  Raises:
    ValueError: naming the token or the id that does not fit.
  """
  vocabulary = tokenizer.get_vocab()
  beyond = sorted(
    (i, token) for token, i in vocabulary.items() if i >= config.vocab_size
  )
  if beyond:
    (first, token), count = beyond[0], len(beyond)
    raise ValueError(
      f'the tokenizer does not fit the model: {count} of its {len(vocabulary):,} tokens'
      f' have ids beyond the {config.vocab_size:,} embeddings (vocab_size of'
      f' config.json), the first is {token!r} with id {first}; take the tokenizer that'
      ' the model was trained with'
    )
  if not getattr(config, 'position_offset', 0):
    return  # Padding is masked, whatever its id.
  pad, wanted = tokenizer.pad_token_id, config.pad_token_id
  if pad != wanted:
    said = 'has no pad token' if pad is None else f'pads with id {pad}'
    raise ValueError(
      f'the tokenizer does not fit the model: it {said}, the model counts positions by'
      f' pad_token_id={wanted} of config.json'
    )


def require_tokens(tokens: Tokens, table: Table) -> None:
  """Checks that every row has a token.

  Raises:
    ValueError: naming the first row of the table that has none.
  """
  empty_N = ~tokens.columns['mask_BL'].any(axis=1)
  if empty_N.any():
    row = int(np.argmax(empty_N))
    raise ValueError(
      f'{table.source}: the text in {table.place(row)} has no tokens; fill or drop it'
    )


def pad_rows(rows: Sequence[Sequence[int]], length: int, fill: int) -> np.ndarray:
  """An (N, L) int32 array of rows of different lengths, padded on the right."""
  lengths_N = np.array([len(row) for row in rows], np.int64)
  out_NL = np.full((len(rows), length), fill, np.int32)
  total = int(lengths_N.sum())
  flat = np.fromiter(itertools.chain.from_iterable(rows), np.int32, total)
  out_NL[np.arange(length)[None, :] < lengths_N[:, None]] = flat
  return out_NL


def tokenise(
  tokenizer: Any, first: Sequence[str], second: Sequence[str] | None, length: int
) -> Tokens:
  """Tokenises rows of one or two texts, cutting the longer text of a row first.

  Args:
    tokenizer: a fast `transformers` tokenizer.
    first: the only or the first text of every row.
    second: the second text of every row, or None.
    length: tokens of every row, special ones included.
  """
  if second is not None and not _separates(tokenizer):
    second = [f'\n{text}' for text in second]
  pad = tokenizer.pad_token_id or 0
  with_types = 'token_type_ids' in tokenizer.model_input_names
  parts: dict[str, list[np.ndarray]] = {'ids_BL': [], 'mask_BL': []}
  if with_types:
    parts['types_BL'] = []
  truncated = 0
  for start in range(0, len(first), _CHUNK):
    rows = slice(start, start + _CHUNK)
    pair = None if second is None else list(second[rows])
    encodings = tokenizer(
      list(first[rows]), pair, truncation=True, max_length=length
    ).encodings
    truncated += sum(bool(e.overflowing) for e in encodings)
    ids = [e.ids for e in encodings]
    parts['ids_BL'].append(pad_rows(ids, length, pad))
    parts['mask_BL'].append(pad_rows([e.attention_mask for e in encodings], length, 0))
    if with_types:
      types = [e.type_ids for e in encodings]
      parts['types_BL'].append(pad_rows(types, length, 0))
  empty = np.zeros((0, length), np.int32)
  columns = {name: np.concatenate(part or [empty]) for name, part in parts.items()}
  return Tokens(columns, truncated)


def _separates(tokenizer: Any) -> bool:
  """Whether the tokenizer itself puts something between the texts of a pair."""
  pair = tokenizer.num_special_tokens_to_add(pair=True)
  return pair > tokenizer.num_special_tokens_to_add(pair=False)
