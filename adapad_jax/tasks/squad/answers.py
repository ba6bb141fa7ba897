"""Answers of a whole split, and the files that hold them."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from adapad_jax.files import write_json
from adapad_jax.tasks.config import QaConfig
from adapad_jax.tasks.predictions import WRITERS, writable_kind, write_table


class Candidate(NamedTuple):
  """One possible answer.

  Attributes:
    text: what it says, '' for no answer.
    score: higher is better; a log-probability up to a constant per question.
    logits: start and end logit of a marked span; None for generated text.
  """

  text: str
  score: float
  logits: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Answers:
  """Answers by question.

  Attributes:
    ids: the questions.
    texts: the final answers, '' for none.
    spans: the best answers that are not empty, where there are any.
    odds_Q: no-answer scores; None in v1.1, where every question has an answer.
    n_best: candidates, best first.
  """

  ids: tuple[str, ...]
  texts: tuple[str, ...]
  spans: tuple[str, ...]
  odds_Q: np.ndarray | None
  n_best: tuple[tuple[Candidate, ...], ...]


def choose(
  ids: tuple[str, ...],
  candidates: Sequence[Sequence[Candidate]],
  nulls: Sequence[Candidate] | None,
  qa: QaConfig,
) -> Answers:
  """Picks the answers from the candidates that the windows of a question gave.

  Args:
    ids: the questions.
    candidates: of each question, in any order; '' never is one.
    nulls: of each question, the candidate of not answering, whose score less that of
      the best candidate, or of zero if there is none, is the no-answer score; None in
      v1.1.
    qa: number of candidates to keep, and the null threshold.
  """
  n_best = [best_distinct(some, qa.n_best) for some in candidates]
  spans = tuple(best[0].text if best else '' for best in n_best)
  if nulls is None:
    return Answers(ids, spans, spans, None, tuple(n_best))
  odds_Q = np.array(
    [
      null.score - (best[0].score if best else 0.0)
      for null, best in zip(nulls, n_best, strict=True)
    ]
  )
  silent = odds_Q > qa.null_threshold
  texts = tuple('' if no else text for no, text in zip(silent, spans, strict=True))
  by_score = lambda best: tuple(sorted(best, key=lambda c: -c.score))
  n_best = [by_score((*best, null)) for best, null in zip(n_best, nulls, strict=True)]
  return Answers(ids, texts, spans, odds_Q, tuple(n_best))


def best_distinct(candidates: Sequence[Candidate], k: int) -> tuple[Candidate, ...]:
  """The k best candidates that differ in their text, best first."""
  best: dict[str, Candidate] = {}
  for candidate in sorted(candidates, key=lambda c: -c.score):
    if candidate.text and candidate.text not in best:
      best[candidate.text] = candidate
      if len(best) == k:
        break
  return tuple(best.values())


def answer_files(path: pathlib.Path) -> list[pathlib.Path]:
  """The files that `write_answers` may write.

  Raises:
    ValueError: if the suffix of the path names no format of answers.
  """
  if writable_kind(path, ('.json', *WRITERS)) != '.json':
    return [path]
  return [path, _beside(path, 'nbest_predictions'), _beside(path, 'null_odds')]


def write_answers(answers: Answers, path: str | pathlib.Path) -> None:
  """Writes answers in the format that the suffix of the path names.

  A '.json' file gets the official layout, an object of answers by question id, and
  two files lie beside it: the candidates with their probabilities, and in v2.0 the
  no-answer scores that the official script takes as `--na-prob-file`. They are named
  after it, as run_qa names them: predictions.json, nbest_predictions.json and
  null_odds.json. Other suffixes get one table, see `write_table`.
  """
  path = pathlib.Path(path)
  if path.suffix.lower() != '.json':
    columns: dict[str, Sequence[Any]] = {'prediction': answers.texts, 'id': answers.ids}
    if answers.odds_Q is not None:
      columns['null_odds'] = answers.odds_Q.tolist()
    write_table(path, columns)
    return
  write_json(path, dict(zip(answers.ids, answers.texts, strict=True)))
  lists = [[_entry(*pair) for pair in _shares(best)] for best in answers.n_best]
  write_json(
    _beside(path, 'nbest_predictions'), dict(zip(answers.ids, lists, strict=True))
  )
  if answers.odds_Q is not None:
    odds = answers.odds_Q.tolist()
    write_json(_beside(path, 'null_odds'), dict(zip(answers.ids, odds, strict=True)))


def _beside(path: pathlib.Path, what: str) -> pathlib.Path:
  """'eval_predictions.json' -> 'eval_nbest_predictions.json'."""
  if 'predictions' in path.stem:
    return path.with_name(path.name.replace('predictions', what))
  return path.with_name(f'{path.stem}_{what}.json')


def _shares(best: Sequence[Candidate]) -> list[tuple[Candidate, float]]:
  """Candidates and the softmax of their scores."""
  if not best:
    return []
  weights = [math.exp(c.score - best[0].score) for c in best]
  return [(c, w / sum(weights)) for c, w in zip(best, weights, strict=True)]


def _entry(candidate: Candidate, share: float) -> dict[str, Any]:
  entry: dict[str, Any] = {'text': candidate.text, 'probability': share}
  if candidate.logits is None:
    return entry | {'score': candidate.score}
  start, end = candidate.logits
  return entry | {'start_logit': start, 'end_logit': end}
