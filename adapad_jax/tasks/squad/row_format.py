"""How a question and a passage stand in a row, and what stands around them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from adapad_jax.models.kept_tokenizer import backend
from adapad_jax.tasks.config import QaConfig

Ids = tuple[int, ...]
_PASSAGE, _QUESTION = '\ue000', '\ue001'  # Private characters: no text has them.


@dataclasses.dataclass(frozen=True)
class RowFormat:
  """A row: prefix, first text, middle, second text, suffix.

  Attributes:
    prefix: token ids before the first text.
    middle: token ids between the texts.
    suffix: token ids after the second text.
    question_first: whether the question is the first text.
    segments: whether the second text and the suffix are segment 1.
    null_first: whether the token that stands for 'no answer' is the row's first,
      or else its last.
    question_lead: text in front of every question.
  """

  prefix: Ids
  middle: Ids
  suffix: Ids
  question_first: bool = True
  segments: bool = False
  null_first: bool = False
  question_lead: str = ''

  @property
  def fixed(self) -> int:
    """Tokens of a row that belong to neither text."""
    return len(self.prefix) + len(self.middle) + len(self.suffix)


def span_format(tokenizer: Any) -> RowFormat:
  """The row for marking an answer.

  An encoder's tokenizer has a classification token, which stands for 'no answer'.
  Without one the model is causal: the question comes first, so that the passage
  sees it, and the no-answer token is an end-of-text token that has seen both.

  Raises:
    ValueError: if a causal model's tokenizer has no end-of-text token.
  """
  segments = 'token_type_ids' in tokenizer.model_input_names
  if tokenizer.cls_token_id is not None:
    prefix, middle, suffix = specials_of_pair(tokenizer)
    return RowFormat(prefix, middle, suffix, segments=segments, null_first=True)
  end = end_of_text(tokenizer)
  start = specials_of_pair(tokenizer)[0]
  return RowFormat(start, encode(tokenizer, '\n'), (end,))


def specials_of_pair(tokenizer: Any) -> tuple[Ids, Ids, Ids]:
  """What the tokenizer puts before, between and after two texts."""
  encoding = backend(tokenizer).encode('a', 'b')
  parts: list[list[int]] = [[], [], []]
  place = 0
  for token, text in zip(encoding.ids, encoding.sequence_ids, strict=True):
    if text is None:
      parts[place].append(token)
    else:
      place = text + 1
  return tuple(parts[0]), tuple(parts[1]), tuple(parts[2])


def prompt_format(tokenizer: Any, qa: QaConfig, *, unanswerable: bool) -> RowFormat:
  """The row for a decoder that says the answer next.

  The passage comes first. A tokenizer with a chat template has it wrapped around
  the request, with thinking turned off where the template knows that.
  """
  ask = 'Answer the question with words copied from the passage.'
  if unanswerable:
    ask += f' If it has no answer there, reply: {qa.no_answer}'
  request = f'{ask}\n\nPassage:\n{_PASSAGE}\n\nQuestion:{_QUESTION}'
  if tokenizer.chat_template:
    text = tokenizer.apply_chat_template(
      [{'role': 'user', 'content': request}],
      tokenize=False,
      add_generation_prompt=True,
      enable_thinking=False,
    )
    start: Ids = ()
  else:
    text = f'{request}\n\nAnswer:'
    start = specials_of_pair(tokenizer)[0]
  before, rest = text.split(_PASSAGE)
  between, after = rest.split(_QUESTION)
  return RowFormat(
    prefix=start + encode(tokenizer, before),
    middle=encode(tokenizer, between),
    suffix=encode(tokenizer, after),
    question_first=False,
    question_lead=word_lead(tokenizer),
  )


def word_lead(tokenizer: Any) -> str:
  """What to put in front of a word that does not start its text.

  It is a space, unless the tokenizer puts one in front of every text by itself.
  """
  first = tokenizer.convert_ids_to_tokens(encode(tokenizer, 'a')[0])
  return '' if first.startswith('\u2581') else ' '


def end_of_text(tokenizer: Any) -> int:
  """The token that ends a text.

  Raises:
    ValueError: if the tokenizer has none.
  """
  if tokenizer.eos_token_id is None:
    raise ValueError(
      'the tokenizer has no end-of-text token (eos_token), which answering questions'
      ' with a causal model needs'
    )
  return tokenizer.eos_token_id


def encode(tokenizer: Any, text: str) -> Ids:
  """Token ids of a text alone."""
  return tuple(encode_all(tokenizer, [text])[0].ids)


def encode_all(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
  """Encodings, with ids and offsets, of texts alone, however long."""
  if not texts:
    return []
  return tokenizer(list(texts), add_special_tokens=False, verbose=False).encodings
