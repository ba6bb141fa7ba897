"""Sliding windows over passages, and the way back from tokens to characters."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.config import QaConfig
from adapad_jax.tasks.counter import RowCounter
from adapad_jax.tasks.ragged import Ragged
from adapad_jax.tasks.squad.questions import Questions
from adapad_jax.tasks.squad.row_format import RowFormat, encode_all
from adapad_jax.tasks.store import Writer
from adapad_jax.tasks.tokenise import columns_of, digest, kept_if_many

# Raise it when the same questions come to be laid out in another way.
_VERSION = 1
_CHUNK = 1024
_PLACES = ('question', 'first', 'size', 'at', 'null')
_KINDS = {'ids': np.int32, 'length': np.int32, 'chars': np.int32}
_KINDS |= dict.fromkeys(_PLACES, np.int64)


@dataclasses.dataclass(frozen=True)
class Windows:
  """Where the passage tokens of every row came from.

  Rows of one question follow each other. Passage token t of a row stands in column
  first_N + t and covers characters chars_T2[at_N + t] of its passage.

  Attributes:
    question_N: index of the question.
    first_N: column of the first passage token.
    size_N: number of passage tokens.
    at_N: the first passage token's row in `chars_T2`.
    null_N: column of the token that stands for 'no answer'.
    chars_T2: (start, end) characters of the tokens of all passages, one passage
      after the other.
  """

  question_N: np.ndarray
  first_N: np.ndarray
  size_N: np.ndarray
  at_N: np.ndarray
  null_N: np.ndarray
  chars_T2: np.ndarray

  def __len__(self) -> int:
    return len(self.question_N)

  def take(self, rows_M: np.ndarray) -> 'Windows':
    """The given rows."""
    chosen = {
      name: getattr(self, name)[rows_M]
      for name in ('question_N', 'first_N', 'size_N', 'at_N', 'null_N')
    }
    return dataclasses.replace(self, **chosen)


@dataclasses.dataclass(frozen=True)
class Rows:
  """Windows as token rows.

  Attributes:
    columns: 'ids_BL' and 'mask_BL', and 'types_BL' if rows have segments.
    windows: where they came from.
    cut: number of questions that lost tokens.
  """

  columns: dict[str, Ragged]
  windows: Windows
  cut: int


def check_room(row_format: RowFormat, qa: QaConfig, length: int) -> None:
  """Checks that windows move forward even beside the longest question.

  Raises:
    ValueError: if the passage tokens of a row do not exceed the overlap.
  """
  room = length - row_format.fixed - qa.max_question
  if room <= qa.overlap:
    raise ValueError(
      f'data.max_length leaves {room} tokens of passage beside a question of'
      f' data.qa.max_question={qa.max_question}, which must be more than'
      f' data.qa.overlap={qa.overlap}; raise the first or lower the others'
    )


def make_rows(
  questions: Questions,
  row_format: RowFormat,
  tokenizer: Any,
  qa: QaConfig,
  length: int,
  cache: str = '',
) -> Rows:
  """Lays out every question with the windows of its passage.

  A window takes as many passage tokens as fit; the next one starts `qa.overlap`
  tokens before its end, and the one that reaches the passage's end is the last.
  Rows of many questions are kept in files, from which a later start takes them.

  Args:
    questions: what to lay out.
    row_format: what stands around the texts.
    tokenizer: a fast tokenizer.
    qa: limits of the question and the overlap; `check_room` has passed them.
    length: most tokens of a row.
    cache: folder of such files; '' is the user's.

  Raises:
    ValueError: if a passage has no tokens.
  """
  kinds = _KINDS | ({'types': np.uint8} if row_format.segments else {})
  make = functools.partial(_write, questions, row_format, tokenizer, qa, length)
  key = lambda: {
    'version': _VERSION,
    'texts': [digest(questions.questions), digest(questions.passages)],
    'passages': digest([str(questions.passage_Q.tolist())]),
    'format': dataclasses.asdict(row_format),
    'lengths': [length, qa.max_question, qa.overlap],
  }
  found = kept_if_many(len(questions), tokenizer, cache, key, kinds, make)
  places = {f'{name}_N': np.array(found.arrays[name]) for name in _PLACES}
  # As a plain array, slices of which are made much faster than those of a file.
  chars_T2 = np.asarray(found.arrays['chars']).reshape(-1, 2)
  windows = Windows(**places, chars_T2=chars_T2)
  return Rows(columns_of(found, tokenizer, length), windows, found.about['cut'])


def _write(
  questions: Questions,
  row_format: RowFormat,
  tokenizer: Any,
  qa: QaConfig,
  length: int,
  writer: Writer,
) -> dict[str, Any]:
  with RowCounter('tokenising passages') as counter:
    passages = _encoded(tokenizer, questions.passages, counter)
  writer.append(chars=passages.chars_T2.ravel())
  cut, lead = 0, row_format.question_lead
  with RowCounter('tokenising questions') as counter:
    for start in range(0, len(questions), _CHUNK):
      texts = [lead + text for text in questions.questions[start : start + _CHUNK]]
      asked = [encoding.ids for encoding in encode_all(tokenizer, texts)]
      cut += sum(len(ids) > qa.max_question for ids in asked)
      made = [
        window
        for number, ids in enumerate(asked, start)
        for window in _windows(
          questions, row_format, passages, number, ids[: qa.max_question], length, qa
        )
      ]
      writer.append(**_columns(made, row_format))
      counter.advance(len(asked), writer.sizes['ids'])
  return {'cut': cut}


@dataclasses.dataclass(frozen=True)
class _Passages:
  """Tokens of all passages, one passage after the other, and their characters."""

  ids_T: np.ndarray
  chars_T2: np.ndarray
  start_P: np.ndarray


def _encoded(tokenizer: Any, texts: Sequence[str], counter: RowCounter) -> _Passages:
  """Encodes a part at a time, whose Python objects are let go before the next."""
  ids, chars, sizes = [np.zeros(0, np.int32)], [np.zeros((0, 2), np.int32)], [0]
  for start in range(0, len(texts), _CHUNK):
    part = encode_all(tokenizer, texts[start : start + _CHUNK])
    sizes += [len(one.ids) for one in part]
    ids.append(np.array([i for one in part for i in one.ids], np.int32))
    pairs = [pair for one in part for pair in one.offsets]
    chars.append(np.array(pairs, np.int32).reshape(-1, 2))
    counter.advance(len(part), sum(sizes))
  return _Passages(np.concatenate(ids), np.concatenate(chars), np.cumsum(sizes))


def _windows(
  questions: Questions,
  row_format: RowFormat,
  passages: _Passages,
  number: int,
  question: list[int],
  length: int,
  qa: QaConfig,
) -> Iterator[tuple[list[int], int, tuple[int, ...]]]:
  """Each window's row, where its second segment starts, and its `_PLACES`."""
  passage = questions.passage_Q[number]
  low, high = (int(i) for i in passages.start_P[passage : passage + 2])
  if low == high:
    raise ValueError(
      f'{questions.source}: the passage of question {questions.ids[number]!r} has no'
      ' tokens'
    )
  room = length - row_format.fixed - len(question)
  for begin in window_starts(high - low, room, qa.overlap):
    part = passages.ids_T[low + begin : min(low + begin + room, high)].tolist()
    row, split, first = _row(row_format, question, part)
    null = 0 if row_format.null_first else len(row) - 1
    yield row, split, (number, first, len(part), low + begin, null)


def _columns(
  made: Sequence[tuple[list[int], int, tuple[int, ...]]], row_format: RowFormat
) -> dict[str, Any]:
  """Arrays of some windows, by their names in `_KINDS`."""
  columns = {
    'ids': [i for row, _, _ in made for i in row],
    'length': [len(row) for row, _, _ in made],
  }
  places = zip(*(place for _, _, place in made), strict=True)
  columns |= dict(zip(_PLACES, places, strict=True))
  if row_format.segments:
    columns['types'] = np.concatenate(
      [np.arange(len(row)) >= split for row, split, _ in made]
    )
  return columns


def window_starts(tokens: int, room: int, overlap: int) -> range:
  """First tokens of the windows over a passage."""
  return range(0, max(tokens - overlap, 1), room - overlap)


def token_spans(windows: Windows, questions: Questions) -> np.ndarray:
  """(N, 2) first and last column of the training answer in every row.

  It is (-1, -1) in rows that do not hold the whole answer. `windows` are all windows
  of their questions.
  """
  number_W, row_W, of_N = np.unique(
    windows.question_N, return_index=True, return_inverse=True
  )
  if not len(number_W):
    return np.zeros((0, 2), np.int64)
  stop_N = windows.at_N + windows.size_N
  high_W = stop_N[np.append(row_W[1:], len(windows)) - 1]
  start_W, end_W = questions.span_Q2[number_W].T
  first_W, last_W = _tokens(
    windows.chars_T2, windows.at_N[row_W], high_W, start_W, end_W
  )
  first_N, last_N = first_W[of_N], last_W[of_N]
  whole_N = (start_W >= 0)[of_N] & (windows.at_N <= first_N) & (last_N < stop_N)
  whole_N &= first_N <= last_N
  column_N = windows.first_N - windows.at_N
  span_N2 = np.stack([first_N + column_N, last_N + column_N], axis=1)
  return np.where(whole_N[:, None], span_N2, -1)


def _tokens(
  chars_T2: np.ndarray,
  low_W: np.ndarray,
  high_W: np.ndarray,
  start_W: np.ndarray,
  end_W: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """First and last token of characters start..end of the passage low..high, each (W,).

  Starts and ends of a passage's tokens never decrease, though tokens may share a
  character. Shifted by more than a passage has characters, those of all passages
  increase too, and one search finds every place.
  """
  low_P, row_P, of_W = np.unique(low_W, return_index=True, return_inverse=True)
  size_P = high_W[row_P] - low_P
  before_P = np.cumsum(size_P) - size_P
  passage_T = np.repeat(np.arange(len(low_P)), size_P)
  token_T = np.arange(size_P.sum()) + (low_P - before_P)[passage_T]
  width = 1 + max(int(chars_T2.max(initial=0)), int(end_W.max()))
  chars_T2 = chars_T2[token_T] + (width * passage_T)[:, None]
  shift_W = width * of_W
  first_W = np.searchsorted(chars_T2[:, 1], shift_W + start_W, side='right')
  last_W = np.searchsorted(chars_T2[:, 0], shift_W + end_W, side='left') - 1
  back_W = (low_P - before_P)[of_W]
  return first_W + back_W, last_W + back_W


def _row(
  row_format: RowFormat, question: list[int], part: list[int]
) -> tuple[list[int], int, int]:
  """A row, the column where its second segment starts and the passage's column."""
  first, second = (question, part) if row_format.question_first else (part, question)
  head = [*row_format.prefix, *first, *row_format.middle]
  row = [*head, *second, *row_format.suffix]
  passage = len(head) if row_format.question_first else len(row_format.prefix)
  return row, len(head), passage
