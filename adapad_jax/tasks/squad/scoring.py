"""The official SQuAD metrics, in percent.

Definitions: https://rajpurkar.github.io/SQuAD-explorer/, the evaluation scripts of
v1.1 and v2.0. They agree on how text is normalised and differ where an answer has no
words left after that: v2.0 counts two empty answers as equal, v1.1 gives F1 zero.
"""

import collections
import re
import string
from collections.abc import Sequence

import numpy as np

Golds = Sequence[tuple[str, ...]]
_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)


def normalise(text: str) -> str:
  """Lower case without ASCII punctuation, articles and surplus white space."""
  bare = text.lower().translate(_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', bare).split())


def token_f1(gold: str, answer: str) -> float:
  """F1 of the words that two normalised texts share; 0 if there are none."""
  gold_words, words = gold.split(), answer.split()
  shared = (collections.Counter(gold_words) & collections.Counter(words)).total()
  if not shared:
    return 0.0
  precision, recall = shared / len(words), shared / len(gold_words)
  return 2 * precision * recall / (precision + recall)


def raw_scores(
  golds: Golds, answers: Sequence[str], *, unanswerable: bool
) -> tuple[np.ndarray, np.ndarray]:
  """Exact match and F1, (Q,) each in [0, 1], of every question's best gold.

  Args:
    golds: annotators' answers of every question.
    answers: one answer per question, '' for none.
    unanswerable: scores as v2.0, where an answer may be empty, not as v1.1.
  """
  exact_Q, f1_Q = np.zeros(len(golds)), np.zeros(len(golds))
  for i, (texts, answer) in enumerate(zip(golds, answers, strict=True)):
    known = {normalise(text) for text in texts}
    if unanswerable:
      known = known - {''} or {''}
    said = normalise(answer)
    exact_Q[i] = said in known
    f1_Q[i] = max(token_f1(gold, said) for gold in known)
    if unanswerable and not said:
      f1_Q[i] = exact_Q[i]
  return exact_Q, f1_Q


def score_v1(golds: Golds, answers: Sequence[str]) -> dict[str, float]:
  """'exact_match' and 'f1' of v1.1."""
  exact_Q, f1_Q = raw_scores(golds, answers, unanswerable=False)
  return {'exact_match': _percent(exact_Q), 'f1': _percent(f1_Q)}


def score_v2(
  golds: Golds, answers: Sequence[str], spans: Sequence[str], odds_Q: np.ndarray
) -> dict[str, float]:
  """The metrics of v2.0, with the best thresholds of the no-answer scores.

  Args:
    golds: annotators' answers; empty where a question is unanswerable.
    answers: final answers, '' for none.
    spans: what each answer would be if there had to be one.
    odds_Q: no-answer scores; answering fits a low score.
  """
  exact_Q, f1_Q = raw_scores(golds, answers, unanswerable=True)
  has_Q = np.array([bool(texts) for texts in golds])
  found = {
    'exact': _percent(exact_Q),
    'f1': _percent(f1_Q),
    'total': float(len(golds)),
  }
  for name, chosen_Q in (('HasAns', has_Q), ('NoAns', ~has_Q)):
    if chosen_Q.any():
      found[f'{name}_exact'] = _percent(exact_Q[chosen_Q])
      found[f'{name}_f1'] = _percent(f1_Q[chosen_Q])
      found[f'{name}_total'] = float(chosen_Q.sum())
  said_Q = np.array([bool(text) for text in spans])
  raw = raw_scores(golds, spans, unanswerable=True)
  for name, score_Q in zip(('best_exact', 'best_f1'), raw, strict=True):
    best, threshold = best_threshold(score_Q, has_Q, said_Q, odds_Q)
    found[name], found[f'{name}_thresh'] = best, threshold
  return found


def best_threshold(
  score_Q: np.ndarray, has_Q: np.ndarray, said_Q: np.ndarray, odds_Q: np.ndarray
) -> tuple[float, float]:
  """The best mean score, in percent, over thresholds, and the first that reaches it.

  Questions whose no-answer score is at most the threshold are answered, in the order
  of their scores; 0.0 with nothing answered is where the search starts. As in the
  official script, questions with the same score are taken one by one.

  Args:
    score_Q: score of the answer where it is given.
    has_Q: whether the question has an answer.
    said_Q: whether the answer is not empty.
    odds_Q: no-answer scores.
  """
  order_Q = np.argsort(odds_Q, kind='stable')
  # Answering an unanswerable question loses the point that no answer had won.
  gain_Q = np.where(has_Q, score_Q, -said_Q.astype(float))[order_Q]
  total_Q = np.sum(~has_Q) + np.cumsum(gain_Q)
  best = int(np.argmax(total_Q))
  if total_Q[best] <= np.sum(~has_Q):
    return 100.0 * float(np.mean(~has_Q)), 0.0
  return 100.0 * float(total_Q[best]) / len(score_Q), float(odds_Q[order_Q[best]])


def _percent(score_Q: np.ndarray) -> float:
  return 100.0 * float(np.mean(score_Q))
