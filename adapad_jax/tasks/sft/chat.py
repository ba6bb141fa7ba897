"""How a decoder is asked to go on, when it has to stop, and what it has said."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.sft.conversation import BadRow, Conversation
from adapad_jax.tasks.sft.encode import Encoded, Encoder
from adapad_jax.tasks.sft.layouts import Columns, read_prompt
from adapad_jax.tasks.sft.masks import mark
from adapad_jax.tasks.sft.template import Template, end_of_turn, text_behind_turns


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What a decoder goes on from.

  Attributes:
    text: all of it.
    ids: its tokens.
    reference: what the row says there; None if it does not tell.
  """

  text: str
  ids: tuple[int, ...]
  reference: str | None = None


@dataclasses.dataclass(frozen=True)
class Chat:
  """A template with its tokenizer, both ways.

  Attributes:
    template: renders conversations.
    encoder: makes tokens of text.
    tokenizer: of the model; makes text of tokens.
    columns: names of columns in rows.
  """

  template: Template
  encoder: Encoder
  tokenizer: Any
  columns: Columns

  @property
  def stop_ids(self) -> tuple[int, ...]:
    """Tokens that end an answer: the template's end of a turn, and the end of text."""
    found = {self.encoder.end}
    if end := end_of_turn(self.template):
      found.add(self.encoder.tokens.token_to_id(end))
    return tuple(sorted(found - {None}))

  @property
  def stop_texts(self) -> tuple[str, ...]:
    """Texts that end an answer, where the template ends turns with no special token."""
    end = text_behind_turns(self.template).rstrip()
    # Decoding may leave out the blank that an empty answer starts with.
    return tuple(dict.fromkeys((end, end.lstrip()))) if end else ()

  def ends(self, stop: Sequence[str]) -> tuple[str, ...]:
    """All texts that end an answer: the template's, and those asked for beside."""
    return (*self.stop_texts, *stop)

  @property
  def fill(self) -> int:
    """What stands behind an answer that has ended."""
    return self.tokenizer.pad_token_id or 0

  def prompt_of_row(self, row: Any) -> tuple[Prompt, Conversation | None]:
    """The prompt of a row in any layout, and the whole row if it has its last turn.

    The prompt is what stands in front of the last turn; a text alone goes on itself.

    Raises:
      BadRow: see `read_prompt`, or if the template refuses it.
    """
    one, has_last = read_prompt(row, self.columns)
    return self.prompt(one, has_last=has_last), one if has_last else None

  def prompt(self, one: Conversation, *, has_last: bool = True) -> Prompt:
    """The prompt of a conversation that ends with a turn, real or a stand-in.

    Raises:
      BadRow: if the template refuses it.
    """
    if one.strings:
      reference = one.strings[1] if has_last and len(one.strings) > 1 else None
      return Prompt(one.strings[0], self._start_of(one.strings[0]), reference)
    last = one.messages[-1]
    said = last['content'] or str(last.get('tool_calls', ''))
    asked = dataclasses.replace(one, messages=one.messages[:-1])
    return dataclasses.replace(self.ask(asked), reference=said if has_last else None)

  def ask(self, one: Conversation) -> Prompt:
    """The prompt for the next turn of a conversation.

    Raises:
      BadRow: if the template refuses it.
    """
    self.template.check(one)
    text = self.template.render(one, one.messages, prompt=True)
    return Prompt(
      text, tuple(self.encoder.tokens.encode(text, add_special_tokens=False).ids)
    )

  def _start_of(self, text: str) -> tuple[int, ...]:
    """Tokens of text that starts a row, with what the tokenizer puts in front of it."""
    ids = self.encoder.tokens.encode(text).ids
    # Nothing goes on behind an end.
    while ids and ids[-1] == self.encoder.end:
      ids = ids[:-1]
    return tuple(ids)

  def encoded(self, ones: Sequence[Conversation]) -> list[Encoded | None]:
    """Whole rows with their last turns to be learned; None where they cannot be."""
    marked, places = [], []
    for place, one in enumerate(ones):
      with contextlib.suppress(BadRow):
        marked.append(mark(one, self.template, 'last'))
        places.append(place)
    found: list[Encoded | None] = [None] * len(ones)
    for place, row in zip(places, self.encoder.encode(marked), strict=True):
      found[place] = row if isinstance(row, Encoded) else None
    return found

  def text_of(self, ids: Sequence[int]) -> str:
    """The text of an answer up to the token that ends it."""
    stops = set(self.stop_ids)
    end = next((i for i, token in enumerate(ids) if token in stops), len(ids))
    return self.decode(ids[:end])

  def decode(self, ids: Sequence[int]) -> str:
    """The text of tokens, special ones left out."""
    return self.tokenizer.decode(
      [int(token) for token in ids],
      skip_special_tokens=True,
      clean_up_tokenization_spaces=False,
    )


def count_of(ids: Sequence[int], stop_ids: Sequence[int]) -> int:
  """Tokens of an answer, the one that ends it included."""
  ends = np.flatnonzero(np.isin(ids, stop_ids))
  return int(ends[0]) + 1 if len(ends) else len(ids)


def until(text: str, stop: Sequence[str]) -> str:
  """A text up to the first of some texts in it."""
  places = [place for end in stop if end and (place := text.find(end)) >= 0]
  return text[: min(places)] if places else text
