"""Answers marked in the passage: the loss of a span head, and its best answers."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.models.head import Head, open_places
from adapad_jax.tasks.config import DataConfig, QaConfig
from adapad_jax.tasks.squad.answer_format import AnswerFormat, EncodedQuestions
from adapad_jax.tasks.squad.answers import Answers, Candidate, choose
from adapad_jax.tasks.squad.questions import Questions
from adapad_jax.tasks.squad.row_format import RowFormat, span_format
from adapad_jax.tasks.squad.search import best_spans
from adapad_jax.tasks.squad.windows import (
  Windows,
  check_room,
  make_rows,
  token_spans,
)
from adapad_jax.tasks.task import Batch, Outputs


def answer_format(
  config: DataConfig, tokenizer: Any, *, unanswerable: bool
) -> AnswerFormat:
  """Answers by marked span, of encoders and decoders.

  A row without its whole answer is to mark the no-answer token: the passage in that
  row does not answer the question.

  Raises:
    ValueError: if the rows are too short, or the tokenizer lacks what they need.
  """
  row_format = span_format(tokenizer)
  check_room(row_format, config.qa, config.max_length)
  return AnswerFormat(
    head=Head('span'),
    trains_no_answer=True,
    encode=functools.partial(_encode, config, tokenizer, row_format),
    loss=span_loss,
    predict=predict_spans,
    answers=functools.partial(span_answers, config.qa, unanswerable),
  )


def _encode(
  config: DataConfig, tokenizer: Any, row_format: RowFormat, questions: Questions
) -> EncodedQuestions:
  length = config.max_length
  rows = make_rows(questions, row_format, tokenizer, config.qa, length, config.cache)
  windows = rows.windows
  span_N2 = token_spans(windows, questions)
  held_N = span_N2[:, 0] >= 0
  span_N2 = np.where(held_N[:, None], span_N2, windows.null_N[:, None])
  places = {
    'start_B': span_N2[:, 0],
    'end_B': span_N2[:, 1],
    'first_B': windows.first_N,
    'size_B': windows.size_N,
    'null_B': windows.null_N,
  }
  columns = dict(rows.columns)
  columns |= {name: place_N.astype(np.int32) for name, place_N in places.items()}
  columns['weight_B'] = questions.weight_Q[windows.question_N]
  return EncodedQuestions(columns, windows, held_N, rows.cut)


def span_loss(
  model: Any, batch: Batch, keys_B: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """Mean cross-entropy of start and end, in nats, of every row, and its weight.

  The softmax is over the passage tokens and the no-answer token.
  """
  logits = model(batch, keys_B)
  start_B = _cross_entropy(logits['start_BL'], batch['start_B'], batch)
  end_B = _cross_entropy(logits['end_BL'], batch['end_B'], batch)
  weight_B = batch['weight_B']
  return (start_B + end_B) / 2 * weight_B, weight_B


def _cross_entropy(
  logits_BL: jax.Array, target_B: jax.Array, batch: Batch
) -> jax.Array:
  place_1L = jnp.arange(logits_BL.shape[1])[None]
  open_BL = open_places(batch, logits_BL.shape[1])
  logits_BL = jnp.where(open_BL, logits_BL.astype(jnp.float32), -jnp.inf)
  # A sum over a mask, unlike a gather, needs no sharding of its own. At -inf it would
  # be NaN, so only the target's logit is ever read.
  at_target_BL = place_1L == target_B[:, None]
  target = jnp.sum(jnp.where(at_target_BL, logits_BL, 0.0), axis=1)
  return jax.nn.logsumexp(logits_BL, axis=1) - target


def predict_spans(model: Any, batch: Batch) -> dict[str, jax.Array]:
  """Start and end logits in float32."""
  return {name: x.astype(jnp.float32) for name, x in model(batch).items()}


def span_answers(
  qa: QaConfig,
  unanswerable: bool,
  questions: Questions,
  windows: Windows,
  outputs: Outputs,
) -> Answers:
  """The best answers of every question over all its windows.

  The no-answer score of a question is the smallest null logit, start plus end, of
  its windows, less the score of its best span (Devlin et al. 2019, section 4.3).
  """
  start_NL, end_NL = outputs['start_BL'], outputs['end_BL']
  candidates = _candidates(questions, windows, start_NL, end_NL, qa)
  if not unanswerable:
    return choose(questions.ids, candidates, None, qa)
  row_N = np.arange(len(windows))
  nulls: list[Candidate | None] = [None] * len(questions)
  for number, start, end in zip(
    windows.question_N.tolist(),
    start_NL[row_N, windows.null_N].tolist(),
    end_NL[row_N, windows.null_N].tolist(),
    strict=True,
  ):
    least = nulls[number]
    if least is None or start + end < least.score:
      nulls[number] = Candidate('', start + end, (start, end))
  return choose(questions.ids, candidates, nulls, qa)


def _candidates(
  questions: Questions,
  windows: Windows,
  start_NL: np.ndarray,
  end_NL: np.ndarray,
  qa: QaConfig,
) -> list[list[Candidate]]:
  """The best spans of every window, by question."""
  score_NK, start_NK, end_NK = best_spans(
    start_NL, end_NL, windows.first_N, windows.size_N, qa.max_answer, qa.n_best
  )
  row_N1 = np.arange(len(windows))[:, None]
  real_NK = np.isfinite(score_NK)
  # Token of `chars_T2`; a row with fewer spans repeats its first token.
  token = lambda x_NK: (
    windows.at_N[:, None] + np.where(real_NK, x_NK - windows.first_N[:, None], 0)
  )
  columns = (
    score_NK,
    np.take_along_axis(start_NL, start_NK, axis=1),
    np.take_along_axis(end_NL, np.where(real_NK, end_NK, 0), axis=1),
    windows.chars_T2[token(start_NK), 0],
    windows.chars_T2[token(end_NK), 1],
    np.broadcast_to(windows.question_N[row_N1], score_NK.shape),
  )
  found: list[list[Candidate]] = [[] for _ in range(len(questions))]
  for score, start, end, low, high, number in zip(
    *(x_NK[real_NK].tolist() for x_NK in columns), strict=True
  ):
    text = questions.passage(number)[low:high].strip()
    found[number].append(Candidate(text, score, (start, end)))
  return found
