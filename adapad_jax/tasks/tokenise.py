"""Texts and pairs of texts to token arrays of one fixed length."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

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
  limit = min(tokenizer.model_max_length, max_positions or tokenizer.model_max_length)
  if max_length > limit:
    raise ValueError(
      f"data.max_length={max_length} is above the model's maximum of {limit} tokens"
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
