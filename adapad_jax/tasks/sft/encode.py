"""Rows of text as token ids, each with whether it is learned."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapad_jax.models.kept_tokenizer import as_json
from adapad_jax.tasks.sft.conversation import BadRow
from adapad_jax.tasks.sft.masks import Marked

# Tokens before a turn that are compared, where none of them is special.
_LOOK_BACK = 16


@dataclasses.dataclass(frozen=True)
class Encoder:
  """A tokenizer that knows where its tokens stand in the text.

  Attributes:
    tokens: of the `tokenizers` package.
    end: id of the token that ends a text; None where there is none.
    special: ids of the special tokens.
    known: ids of beginnings of turns that have been met.
  """

  tokens: Any
  end: int | None
  special: frozenset[int]
  known: dict[str, list[int]] = dataclasses.field(default_factory=dict, compare=False)

  @classmethod
  def of(cls, tokenizer: Any) -> 'Encoder':
    """A copy of a transformers tokenizer's own, whose settings nobody else changes."""
    from tokenizers import Tokenizer

    text = as_json(tokenizer)
    if '"trim_offsets":true' in text.replace(' ', ''):
      # Trimmed offsets leave the blanks of a token out. Its ids are the same.
      text = json.dumps(_untrimmed(json.loads(text)))
    tokens = Tokenizer.from_str(text)
    tokens.no_truncation()
    tokens.no_padding()
    return cls(tokens, tokenizer.eos_token_id, frozenset(tokenizer.all_special_ids))

  def encode(self, rows: Sequence[Marked]) -> list['Encoded | BadRow']:
    """Ids of every row, or what is wrong with it.

    The first token of a row is never learned: nothing predicts it.
    """
    texts = [row.text for row in rows]
    found: list[Any] = [None] * len(rows)
    for special in (False, True):
      places = [i for i, row in enumerate(rows) if row.special == special]
      batch = [texts[i] for i in places]
      for i, one in zip(
        places, self.tokens.encode_batch(batch, add_special_tokens=special), strict=True
      ):
        found[i] = one
    return [self._row(row, one) for row, one in zip(rows, found, strict=True)]

  def _row(self, row: Marked, one: Any) -> 'Encoded | BadRow':
    """A row's tokens, encoded in parts where those of a prompt would be others."""
    spans = [_tokens_of(one, span, len(row.text)) for span in row.spans]
    across = any(span is None for span in spans)
    ids = np.array(self._said(one), np.int32)
    if across or not self._fits(row, one, spans):
      try:
        ids, spans = self._apart(row, one)
      except BadRow as bad:
        if across or row.joined:
          return bad
    learned = np.zeros(len(ids) + 1, np.uint8)
    for start, end in spans:
      learned[start:end] = 1
    if row.closed:
      if self.end is None:
        return BadRow(
          'nothing ends its last turn: the template has no special token there, and the'
          ' tokenizer no end-of-text token'
        )
      ids = np.append(ids, np.int32(self.end))
      learned[len(ids) - 1] = 1
    learned = learned[: len(ids)]
    learned[:1] = 0
    if not learned.any():
      return BadRow('no token of it is to be learned')
    return Encoded(ids, learned)

  def _said(self, one: Any) -> list[int]:
    """Ids without the end tokens that some tokenizers put behind a text themselves.

    Whether an end belongs there the row says; behind a prompt none does.
    """
    ids = one.ids
    while ids and ids[-1] == self.end and one.token_to_sequence(len(ids) - 1) is None:
      ids = ids[:-1]
    return ids

  def _fits(self, row: Marked, one: Any, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether what stands before a span has the tokens that it has by itself.

    A tokenizer may cut blanks at the end of a prompt differently when text follows.
    Looking back to the last special token is enough, since nothing is merged across it.
    """
    for (place, _), (first, _) in zip(row.spans, spans, strict=True):
      if row.joined:
        alone = one.ids[:first]
        if place:
          alone = self._said(self.tokens.encode(row.text[:place]))
        if alone != one.ids[:first]:
          return False
        continue
      back = first - 1
      while back > max(first - _LOOK_BACK, 0) and one.ids[back] not in self.special:
        back -= 1
      if back < 0:
        continue
      asked = row.text[one.token_to_chars(back)[0] : place]
      if asked not in self.known:
        self.known[asked] = self.tokens.encode(asked, add_special_tokens=False).ids
      if self.known[asked] != one.ids[back:first]:
        return False
    return True

  def _apart(self, row: Marked, whole: Any) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Encodes the parts of a text one by one, since a token lies across their border.

    A turn that starts with a line break is the usual case: after the template's own
    it would be one token, which the model never has to say when it is asked.

    Raises:
      BadRow: if the row forbids it, or the parts do not give the same text.
    """
    edges = sorted({0, *(edge for span in row.spans for edge in span), len(row.text)})
    pieces = [row.text[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    parts = self.tokens.encode_batch(pieces, add_special_tokens=False)
    ids = [i for part in parts for i in part.ids]
    same = self.tokens.decode(ids, skip_special_tokens=False) == self.tokens.decode(
      whole.ids, skip_special_tokens=False
    )
    if row.joined or not same:
      start = row.spans[0][0]
      shown = (
        f'{row.text[max(start - 12, 0) : start]!r} + {row.text[start : start + 12]!r}'
      )
      raise BadRow(
        f'the prompt alone has other tokens than in front of what is to be learned,'
        f' {shown}; move the blank that ends the prompt to the completion'
      )
    first = dict(zip(edges, np.cumsum([0, *(len(p.ids) for p in parts)]), strict=True))
    return np.array(ids, np.int32), [(first[a], first[b]) for a, b in row.spans]


@dataclasses.dataclass(frozen=True)
class Encoded:
  """A row's tokens.

  Attributes:
    ids_L: int32 ids.
    learned_L: uint8, 1 where a token is to be predicted.
  """

  ids_L: np.ndarray
  learned_L: np.ndarray


def _tokens_of(one: Any, span: tuple[int, int], length: int) -> tuple[int, int] | None:
  """The tokens of some characters; None if one lies across their border."""
  first, last = (_token_at(one, place, length) for place in span)
  for place, token in zip(span, (first, last), strict=True):
    if token < len(one.ids) and one.token_to_chars(token)[0] < place:
      return None
  return first, last


def _token_at(one: Any, place: int, length: int) -> int:
  """The first token with a character at or behind a place of the text."""
  while place < length:
    token = one.char_to_token(place)
    if token is not None:
      return token
    place += 1
  # Behind the text a tokenizer may add special tokens: they count as its end.
  return len(one.ids)


def _untrimmed(value: Any) -> Any:
  if isinstance(value, dict):
    return {
      k: False if k == 'trim_offsets' else _untrimmed(v) for k, v in value.items()
    }
  if isinstance(value, list):
    return [_untrimmed(item) for item in value]
  return value
