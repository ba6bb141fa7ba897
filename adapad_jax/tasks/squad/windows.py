"""Sliding windows over passages, and the way back from tokens to characters."""

import dataclasses
from typing import Any

import numpy as np

from adapad_jax.tasks.config import QaConfig
from adapad_jax.tasks.ragged import Ragged
from adapad_jax.tasks.squad.questions import Questions
from adapad_jax.tasks.squad.row_format import RowFormat, encode_all


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
  """Windows as token rows of different lengths.

  Attributes:
    ids: token ids of each row.
    segments: segment of each row's tokens, empty where there are none.
    windows: where they came from.
    cut: number of questions that lost tokens.
  """

  ids: list[list[int]]
  segments: list[list[int]]
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
  questions: Questions, row_format: RowFormat, tokenizer: Any, qa: QaConfig, length: int
) -> Rows:
  """Lays out every question with the windows of its passage.

  A window takes as many passage tokens as fit; the next one starts `qa.overlap`
  tokens before its end, and the one that reaches the passage's end is the last.

  Args:
    questions: what to lay out.
    row_format: what stands around the texts.
    tokenizer: a fast tokenizer.
    qa: limits of the question and the overlap; `check_room` has passed them.
    length: most tokens of a row.

  Raises:
    ValueError: if a passage has no tokens.
  """
  passages = encode_all(tokenizer, questions.passages)
  lead = row_format.question_lead
  asked = encode_all(tokenizer, [lead + text for text in questions.questions])
  offset_P = np.cumsum([0] + [len(e.ids) for e in passages])
  ids, segments, places, cut = [], [], [], 0
  for number, passage in enumerate(questions.passage_Q):
    whole = asked[number].ids
    question = whole[: qa.max_question]
    cut += len(whole) > len(question)
    tokens = passages[passage].ids
    if not tokens:
      name = questions.ids[number]
      raise ValueError(
        f'{questions.source}: the passage of question {name!r} has no tokens'
      )
    room = length - row_format.fixed - len(question)
    for begin in window_starts(len(tokens), room, qa.overlap):
      part = tokens[begin : begin + room]
      row, split, first = _row(row_format, question, part)
      ids.append(row)
      if row_format.segments:
        segments.append([0] * split + [1] * (len(row) - split))
      null = 0 if row_format.null_first else len(row) - 1
      places.append((number, first, len(part), offset_P[passage] + begin, null))
  places_5N = np.array(places, np.int64).reshape(-1, 5).T
  windows = Windows(*places_5N, chars_T2=_characters(passages))
  return Rows(ids, segments, windows, cut)


def window_starts(tokens: int, room: int, overlap: int) -> range:
  """First tokens of the windows over a passage."""
  return range(0, max(tokens - overlap, 1), room - overlap)


def pad(rows: Rows, length: int, fill: int) -> dict[str, Any]:
  """Columns ids_BL, mask_BL and, with segments, types_BL, padded on the right."""
  ids = Ragged.of(rows.ids, length, fill)
  columns = {'ids_BL': ids, 'mask_BL': ids.mask()}
  if rows.segments:
    columns['types_BL'] = Ragged.of(rows.segments, length)
  return columns


def token_spans(windows: Windows, questions: Questions) -> np.ndarray:
  """(N, 2) first and last column of the training answer in every row.

  It is (-1, -1) in rows that do not hold the whole answer. `windows` are all windows
  of their questions.
  """
  out_N2 = np.full((len(windows), 2), -1, np.int64)
  numbers, firsts = np.unique(windows.question_N, return_index=True)
  for number, low, high in zip(
    numbers, firsts, [*firsts[1:], len(windows)], strict=True
  ):
    start, end = questions.span_Q2[number]
    if start < 0:
      continue
    at, stop = windows.at_N[low:high], windows.at_N[low:high] + windows.size_N[low:high]
    chars_T2 = windows.chars_T2[at[0] : stop[-1]]
    # Starts and ends of tokens never decrease, though tokens may share a character.
    first = at[0] + np.searchsorted(chars_T2[:, 1], start, side='right')
    last = at[0] + np.searchsorted(chars_T2[:, 0], end, side='left') - 1
    whole = (at <= first) & (first <= last) & (last < stop)
    column = windows.first_N[low:high] - at
    span = np.stack([first + column, last + column], axis=1)
    out_N2[low:high] = np.where(whole[:, None], span, -1)
  return out_N2


def _row(
  row_format: RowFormat, question: list[int], part: list[int]
) -> tuple[list[int], int, int]:
  """A row, the column where its second segment starts and the passage's column."""
  first, second = (question, part) if row_format.question_first else (part, question)
  head = [*row_format.prefix, *first, *row_format.middle]
  row = [*head, *second, *row_format.suffix]
  passage = len(head) if row_format.question_first else len(row_format.prefix)
  return row, len(head), passage


def _characters(passages: list[Any]) -> np.ndarray:
  flat = [pair for encoding in passages for pair in encoding.offsets]
  return np.array(flat, np.int64).reshape(-1, 2)
