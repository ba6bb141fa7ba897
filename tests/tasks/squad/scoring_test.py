"""The official metrics on hand-worked cases, and thresholds against brute force."""

import collections
import re
import string

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from adapad_jax.tasks.squad.scoring import (
  best_threshold,
  normalise,
  raw_scores,
  score_v1,
  score_v2,
  token_f1,
)


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('The Denver  Broncos!', 'denver broncos'),
    ('a "theory" of an anthem', 'theory of anthem'),  # Articles are whole words.
    ('U.S.A.', 'usa'),  # Punctuation goes before articles: 'A.' alone is one.
    ('A.', ''),
    ("the '90s", '90s'),
    ('São  Paulo\u00a0\n(city)', 'são paulo city'),
    ('ÉCOLE', 'école'),  # Accents stay.
    ('5–10 %', '5–10'),  # Only ASCII punctuation goes: the dash stays.
    ('theα the', 'theα'),  # A Greek letter is a letter: no word ends before it.
    ('the-best', 'thebest'),
    ('', ''),
    ('The', ''),
  ],
)
def test_normalise(text, expected):
  assert normalise(text) == expected


def test_f1_counts_words_as_often_as_both_have_them():
  # 'b' twice against once: 2 shared of 3 and of 4 words.
  assert token_f1('b b c', 'b c d e') == pytest.approx(2 * (2 / 4 * 2 / 3) / (7 / 6))
  assert token_f1('b', 'c') == 0
  assert token_f1('', '') == 0


def test_v1_takes_the_best_gold_of_each_question():
  golds = [('Saint Bernadette Soubirous', 'Bernadette'), ('the Broncos',), ('42',)]
  answers = ['bernadette soubirous', 'Broncos', 'forty two']
  # Two of two words of three: F1 0.8; then 1, then 0.
  assert score_v1(golds, answers) == {
    'exact_match': pytest.approx(100 / 3),
    'f1': pytest.approx(60.0),
  }


def test_an_answer_without_words_differs_between_the_versions():
  golds = [('The',), ('the', 'cat')]
  # v1.1: '' equals '' but shares no word. v2.0: golds without words are left out,
  # and with none left the right answer is none.
  exact_Q, f1_Q = raw_scores(golds, ['an', 'a'], unanswerable=False)
  np.testing.assert_array_equal([exact_Q, f1_Q], [[1, 1], [0, 0]])
  exact_Q, f1_Q = raw_scores(golds, ['an', 'a'], unanswerable=True)
  np.testing.assert_array_equal([exact_Q, f1_Q], [[1, 0], [1, 0]])


def test_v2_tells_answerable_from_unanswerable_questions():
  golds = [('Paris',), ('in Rome',), (), ()]
  texts, spans = ['Paris', 'Rome', '', 'Oslo'], ['Paris', 'Rome', 'x', 'Oslo']
  found = score_v2(golds, texts, spans, np.array([-3.0, -2.0, 1.0, -1.0]))
  assert found == {
    'exact': 50.0,
    'f1': pytest.approx((1 + 2 / 3 + 1 + 0) / 4 * 100),
    'total': 4.0,
    'HasAns_exact': 50.0,
    'HasAns_f1': pytest.approx((1 + 2 / 3) / 2 * 100),
    'HasAns_total': 2.0,
    'NoAns_exact': 50.0,
    'NoAns_f1': 50.0,
    'NoAns_total': 2.0,
    # Answering the first alone: 1 + 2 right. F1 gains by the second as well.
    'best_exact': 75.0,
    'best_exact_thresh': -3.0,
    'best_f1': pytest.approx((1 + 2 / 3 + 2) / 4 * 100),
    'best_f1_thresh': -2.0,
  }


def test_v2_leaves_out_a_kind_of_question_that_does_not_occur():
  found = score_v2([('x',)], ['x'], ['x'], np.zeros(1))
  assert 'HasAns_exact' in found and 'NoAns_exact' not in found


def test_silence_is_best_where_no_answer_gains():
  best = best_threshold(
    np.array([0.0, 1.0]), np.array([True, False]), np.array([True, True]), np.zeros(2)
  )
  assert best == (50.0, 0.0)


def test_best_threshold_is_the_best_of_all_by_brute_force():
  rng = np.random.default_rng(0)
  for size in (1, 2, 7, 40):
    has_Q = rng.random(size) < 0.5
    said_Q = rng.random(size) < 0.8
    score_Q = np.where(has_Q & said_Q, rng.random(size), ~has_Q & ~said_Q)
    odds_Q = rng.permutation(size) + rng.random()
    best, threshold = best_threshold(score_Q, has_Q, said_Q, odds_Q)
    tried = {}
    for level in [odds_Q.min() - 1, *odds_Q]:
      answered = odds_Q <= level
      tried[level] = 100 * np.mean(np.where(answered, score_Q, ~has_Q))
    assert best == pytest.approx(max(tried.values()))
    answered = odds_Q <= threshold if best > 100 * np.mean(~has_Q) else odds_Q < -1
    assert 100 * np.mean(np.where(answered, score_Q, ~has_Q)) == pytest.approx(best)


class Official:
  """The published definitions, word by word and question by question.

  An oracle: both scripts in plain loops, with nothing of ours in them.
  """

  def words(self, text):
    kept = ''.join(c for c in text.lower() if c not in set(string.punctuation))
    return re.sub(r'\b(a|an|the)\b', ' ', kept, flags=re.UNICODE).split()

  def exact(self, gold, said):
    return float(' '.join(self.words(gold)) == ' '.join(self.words(said)))

  def f1_of_words(self, gold, said):
    left = collections.Counter(self.words(gold))
    shared = 0
    for word in self.words(said):
      if left[word] > 0:
        left[word] -= 1
        shared += 1
    if shared == 0:
      return 0.0
    precision = shared / len(self.words(said))
    recall = shared / len(self.words(gold))
    return 2 * precision * recall / (precision + recall)

  def f1_of_v2(self, gold, said):
    if not self.words(gold) or not self.words(said):
      return float(self.words(gold) == self.words(said))
    return self.f1_of_words(gold, said)

  def v1(self, golds, said):
    """Best over all golds, however they are written."""
    return (
      max(self.exact(gold, said) for gold in golds),
      max(self.f1_of_words(gold, said) for gold in golds),
    )

  def v2(self, golds, said):
    """Golds without a word are dropped; with none left, the answer is none."""
    golds = [gold for gold in golds if self.words(gold)] or ['']
    return (
      max(self.exact(gold, said) for gold in golds),
      max(self.f1_of_v2(gold, said) for gold in golds),
    )


PIECES = (
  'the', 'The', 'a', 'an', 'A.', 'theory', 'b', 'B', 'c', '42', 'naïve', 'ÉCOLE', 'İ',
  '北京', 'theα', '—', '“', '’', "'", '.', ',', '-', '$', '%', ' ', '  ', '\u00a0',
  '\n', '\u200b',
)  # fmt: skip
TEXTS = st.one_of(
  st.lists(st.sampled_from(PIECES), max_size=5).map(' '.join),
  st.lists(st.sampled_from(PIECES), max_size=5).map(''.join),
  st.text(max_size=6),
)


@hypothesis.settings(deadline=None, max_examples=300, derandomize=True)
@hypothesis.given(st.lists(st.tuples(st.lists(TEXTS, max_size=3), TEXTS), min_size=1))
def test_scores_are_those_of_the_published_definitions(drawn):
  official = Official()
  for unanswerable, of_question in ((False, official.v1), (True, official.v2)):
    asked = [(tuple(golds), said) for golds, said in drawn if golds or unanswerable]
    golds, answers = [g for g, _ in asked], [said for _, said in asked]
    found = raw_scores(golds, answers, unanswerable=unanswerable)
    expected = np.array([of_question(*pair) for pair in asked]).reshape(-1, 2).T
    np.testing.assert_allclose(found, expected, atol=1e-12)
