"""Answers that a decoder says: prompt, loss on the answer alone, greedy decoding."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapad_jax.models.decoder import last_token
from adapad_jax.models.generation import Budget, extend, log_probability, read
from adapad_jax.models.head import Head
from adapad_jax.tasks.config import DataConfig, QaConfig
from adapad_jax.tasks.ragged import Ragged
from adapad_jax.tasks.squad.answer_format import AnswerFormat, EncodedQuestions
from adapad_jax.tasks.squad.answers import Answers, Candidate, choose
from adapad_jax.tasks.squad.questions import Questions
from adapad_jax.tasks.squad.row_format import (
  Ids,
  RowFormat,
  encode_all,
  end_of_text,
  prompt_format,
  word_lead,
)
from adapad_jax.tasks.squad.scoring import normalise
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
  """Answers by generation, of decoders.

  In v1.1 training keeps the rows that hold their answer. In v2.0 a row without it
  trains the reply that there is none.

  Raises:
    ValueError: if the rows are too short, or the tokenizer lacks what they need.
  """
  qa = config.qa
  row_format = prompt_format(tokenizer, qa, unanswerable=unanswerable)
  stop = end_of_text(tokenizer)
  room = config.max_length - answer_room(qa)
  check_room(row_format, qa, room)
  reply = _spoken(tokenizer, qa, [qa.no_answer])[0] if unanswerable else None
  budget = Budget(answer_room(qa), (stop,), tokenizer.pad_token_id or 0)
  return AnswerFormat(
    head=Head('lm'),
    trains_no_answer=unanswerable,
    encode=functools.partial(_encode, config, tokenizer, row_format, room, reply),
    loss=answer_loss,
    predict=functools.partial(predict_answers, budget, reply),
    answers=functools.partial(_answers, tokenizer, qa, unanswerable),
  )


def answer_room(qa: QaConfig) -> int:
  """Tokens of a row that are kept for the answer and the token that ends it."""
  return qa.max_answer + 1


def answer_loss(
  model: Any, batch: Batch, keys_B: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """Summed cross-entropy of the answer's tokens, in nats, and their number.

  Nothing of the prompt is predicted, and logits are computed for the answer alone:
  the prompt's last token predicts the answer's first, and so on.
  """
  whole = {
    'ids_BL': jnp.concatenate([batch['ids_BL'], batch['answer_BA'][:, :-1]], axis=1),
    'mask_BL': jnp.concatenate([batch['mask_BL'], batch['said_BA'][:, :-1]], axis=1),
  }
  hidden_BLD, _ = model.model(whole, keys_B)
  prompt = batch['ids_BL'].shape[1]
  last_BD = last_token(hidden_BLD[:, :prompt], batch['mask_BL'])
  states_BAD = jnp.concatenate([last_BD[:, None], hidden_BLD[:, prompt:]], axis=1)
  loss_BA = optax.softmax_cross_entropy_with_integer_labels(
    model.token_logits(states_BAD), batch['answer_BA']
  )
  said_BA = batch['said_BA'].astype(jnp.float32)
  return jnp.sum(loss_BA * said_BA, axis=1), jnp.sum(said_BA, axis=1)


def predict_answers(
  budget: Budget, reply: Ids | None, model: Any, batch: Batch
) -> dict[str, jax.Array]:
  """Greedy answers 'tokens_BA' and their log-probabilities 'score_B'.

  With a reply, 'null_B' is the log-probability of replying that there is no answer.
  The prompt is read once for both.
  """
  reading = read(model, batch, budget.tokens - 1)
  tokens_BA, score_B = extend(model, reading, budget)
  outputs = {'tokens_BA': tokens_BA, 'score_B': score_B}
  if reply is not None:
    reply_BT = jnp.broadcast_to(jnp.asarray(reply), (len(tokens_BA), len(reply)))
    every_BT = jnp.ones_like(reply_BT)
    outputs['null_B'] = log_probability(model, reading, reply_BT, every_BT)
  return outputs


def no_answer_odds(null_N: np.ndarray) -> np.ndarray:
  """log p / (1 - p) of log-probabilities log p, kept finite where p rounds to one."""
  null_N = np.minimum(np.asarray(null_N, np.float64), -1e-7)
  return null_N - np.log(-np.expm1(null_N))


def _encode(
  config: DataConfig,
  tokenizer: Any,
  row_format: RowFormat,
  room: int,
  reply: Ids | None,
  questions: Questions,
) -> EncodedQuestions:
  qa = config.qa
  rows = make_rows(questions, row_format, tokenizer, qa, room, config.cache)
  windows = rows.windows
  held_N = token_spans(windows, questions)[:, 0] >= 0
  texts = [
    questions.passage(i)[start:end] for i, (start, end) in enumerate(questions.span_Q2)
  ]
  said_Q = _spoken(tokenizer, qa, texts)
  known_N = questions.weight_Q[windows.question_N] > 0
  answers = [
    (said_Q[number] if held else reply or ()) if known else ()
    for number, held, known in zip(windows.question_N, held_N, known_N, strict=True)
  ]
  said = Ragged.of(answers, answer_room(qa))
  columns = rows.columns | {'answer_BA': said, 'said_BA': said.mask()}
  return EncodedQuestions(columns, windows, held_N, rows.cut)


def _spoken(tokenizer: Any, qa: QaConfig, texts: Sequence[str]) -> list[Ids]:
  """What is to be said: a long answer is cut, and then not ended."""
  # After a chat template's generation prompt a line starts, after 'Answer:' a word.
  lead = '' if tokenizer.chat_template else word_lead(tokenizer)
  end, room = end_of_text(tokenizer), answer_room(qa)
  said = [tuple(e.ids) for e in encode_all(tokenizer, [lead + text for text in texts])]
  return [(*ids, end) if len(ids) < room else ids[: qa.max_answer] for ids in said]


def _answers(
  tokenizer: Any,
  qa: QaConfig,
  unanswerable: bool,
  questions: Questions,
  windows: Windows,
  outputs: Outputs,
) -> Answers:
  """Answers of questions from those of their windows.

  v1.1 takes the window whose answer is likeliest. v2.0 takes the window with the
  lowest no-answer score, the log odds of the no-answer reply, which is the question's
  score too; n-best scores are relative to it.
  """
  texts = decode(tokenizer, outputs['tokens_BA'])
  found: list[list[Candidate]] = [[] for _ in range(len(questions))]
  numbers = windows.question_N.tolist()
  if not unanswerable:
    scores = outputs['score_B'].tolist()
    for number, text, score in zip(numbers, texts, scores, strict=True):
      found[number].append(Candidate(text, score))
    return choose(questions.ids, found, None, qa)
  odds_N = no_answer_odds(outputs['null_B'])
  least_Q = np.full(len(questions), np.inf)
  np.minimum.at(least_Q, windows.question_N, odds_N)
  no_answer = normalise(qa.no_answer)
  for number, text, odds in zip(numbers, texts, odds_N.tolist(), strict=True):
    if normalise(text) != no_answer:
      found[number].append(Candidate(text, float(least_Q[number]) - odds))
  nulls = [Candidate('', least) for least in least_Q.tolist()]
  return choose(questions.ids, found, nulls, qa)


def decode(tokenizer: Any, tokens_NA: np.ndarray) -> list[str]:
  """The first line of what was said, before the token that ends it."""
  end = end_of_text(tokenizer)
  texts = []
  for row in tokens_NA.tolist():
    said = row[: row.index(end)] if end in row else row
    text = tokenizer.decode(said, skip_special_tokens=True).strip()
    texts.append(text.split('\n')[0].strip())
  return texts
