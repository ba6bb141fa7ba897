"""Texts and pairs of texts to rows of tokens."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from adapad_jax.models.kept_tokenizer import as_json
from adapad_jax.tasks.counter import RowCounter
from adapad_jax.tasks.in_order import in_order
from adapad_jax.tasks.ragged import Ragged
from adapad_jax.tasks.store import Kept, Kinds, Make, Writer, in_memory, kept
from adapad_jax.tasks.table import Table

# Raise it when the same texts come to be tokenised in another way.
_VERSION = 1
_CHUNK = 4096
# Rows from which on tokens are kept in files; fewer take less than a tenth of a second.
_MANY = 1_000
_KINDS = {'ids': np.int32, 'length': np.int32}


@dataclasses.dataclass(frozen=True)
class Tokens:
  """Rows of tokens, padded on the right where they are used.

  Attributes:
    columns: 'ids_BL' and 'mask_BL', and 'types_BL' if the tokenizer has segments.
    truncated: number of rows that did not fit.
  """

  columns: dict[str, Ragged]
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
  empty_N = tokens.columns['mask_BL'].lengths_N == 0
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
  tokenizer: Any,
  first: Sequence[str],
  second: Sequence[str] | None,
  length: int,
  *,
  cache: str = '',
  name: str = 'rows',
) -> Tokens:
  """Tokenises rows of one or two texts, cutting the longer text of a row first.

  Tokens of many rows are kept in files, from which a later start takes them.

  Args:
    tokenizer: a fast `transformers` tokenizer.
    first: the only or the first text of every row.
    second: the second text of every row, or None.
    length: tokens of every row, special ones included.
    cache: folder of such files; '' is the user's.
    name: of the rows, for the progress shown.
  """
  if second is not None and not _separates(tokenizer):
    second = [f'\n{text}' for text in second]
  kinds = _KINDS | ({'types': np.uint8} if _has_types(tokenizer) else {})
  make = functools.partial(_write, tokenizer, first, second, length, name)
  key = lambda: {
    'version': _VERSION,
    'texts': [digest(texts) for texts in (first, second or ())],
    'length': length,
    'side': tokenizer.truncation_side,
  }
  found = kept_if_many(len(first), tokenizer, cache, key, kinds, make)
  return Tokens(columns_of(found, tokenizer, length), found.about['truncated'])


def kept_if_many(
  rows: int,
  tokenizer: Any,
  cache: str,
  key: Callable[[], dict[str, Any]],
  kinds: Kinds,
  make: Make,
) -> Kept:
  """What is made of so many rows; of many it is kept in files between starts.

  Args:
    rows: how many.
    tokenizer: what makes tokens of them.
    cache: folder of such files; '' is the user's.
    key: says what else the tokens depend on.
    kinds, make: see `store.kept`.
  """
  if rows < _MANY:
    return in_memory(kinds, make)
  by = {'packages': versions(), 'tokenizer': digest([as_json(tokenizer)])}
  return kept(cache, by | key(), kinds, make)


def columns_of(found: Kept, tokenizer: Any, length: int) -> dict[str, Ragged]:
  """'ids_BL', 'mask_BL' and maybe 'types_BL' of arrays 'ids', 'length' and 'types'."""
  length_N = np.array(found.arrays['length'])
  start_N = np.cumsum(length_N, dtype=np.int64) - length_N
  pad = tokenizer.pad_token_id or 0
  ids = Ragged(found.arrays['ids'], start_N, length_N, length, pad)
  columns = {'ids_BL': ids, 'mask_BL': ids.mask()}
  if 'types' in found.arrays:
    types = found.arrays['types']
    columns['types_BL'] = Ragged(types, start_N, length_N, length)
  return columns


def _write(
  tokenizer: Any,
  first: Sequence[str],
  second: Sequence[str] | None,
  length: int,
  name: str,
  writer: Writer,
) -> dict[str, Any]:
  with_types, truncated = _has_types(tokenizer), 0
  with RowCounter(f'tokenising {name}') as counter:
    for encodings in in_order(_encoder(tokenizer, length), _parts(first, second)):
      truncated += sum(bool(e.overflowing) for e in encodings)
      ids = [e.ids for e in encodings]
      writer.append(
        ids=list(itertools.chain.from_iterable(ids)), length=[len(row) for row in ids]
      )
      if with_types:
        types = (encoding.type_ids for encoding in encodings)
        writer.append(types=list(itertools.chain.from_iterable(types)))
      counter.advance(len(ids), writer.sizes['ids'])
  return {'truncated': truncated}


def _parts(
  first: Sequence[str], second: Sequence[str] | None
) -> Iterator[list[str] | list[tuple[str, str]]]:
  """The texts of a few rows at a time."""
  for start in range(0, len(first), _CHUNK):
    rows = slice(start, start + _CHUNK)
    if second is None:
      yield list(first[rows])
    else:
      yield list(zip(first[rows], second[rows], strict=True))


def _encoder(tokenizer: Any, length: int) -> Callable[[list[Any]], list[Any]]:
  """Encodes rows as the tokenizer does with `truncation=True`.

  A copy of what does its work, whose settings nobody else changes meanwhile; the
  tokenizer itself also makes lists of everything that an encoding holds.
  """
  from tokenizers import Tokenizer

  tokens = Tokenizer.from_str(as_json(tokenizer))
  tokens.no_padding()
  tokens.enable_truncation(length, direction=tokenizer.truncation_side)
  return tokens.encode_batch


def versions() -> list[str]:
  """Releases of the packages that tokenise."""
  return [importlib.metadata.version(name) for name in ('transformers', 'tokenizers')]


def digest(texts: Sequence[str]) -> str:
  """Names texts by their content and their order."""
  sizes_N = np.fromiter(map(len, texts), np.int64, len(texts))
  found = hashlib.sha256(sizes_N.tobytes())
  for start in range(0, len(texts), _CHUNK):
    found.update(''.join(texts[start : start + _CHUNK]).encode())
  return found.hexdigest()


def _has_types(tokenizer: Any) -> bool:
  return 'token_type_ids' in tokenizer.model_input_names


def _separates(tokenizer: Any) -> bool:
  """Whether the tokenizer itself puts something between the texts of a pair."""
  pair = tokenizer.num_special_tokens_to_add(pair=True)
  return pair > tokenizer.num_special_tokens_to_add(pair=False)
