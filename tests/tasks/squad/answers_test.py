"""Choosing among candidates, and the files of the official formats."""

import json
import math

import numpy as np
import pytest

from adapad_jax.tasks.config import QaConfig
from adapad_jax.tasks.squad.answers import (
  Candidate,
  answer_files,
  choose,
  write_answers,
)

IDS = ('q1', 'q2', 'q3')
CANDIDATES = [
  [Candidate('b', 1.0, (0.5, 0.5)), Candidate('a', 3.0, (1.0, 2.0)),
   Candidate('b', 2.0, (2.0, 0.0)), Candidate('c', 0.0, (0.0, 0.0))],
  [Candidate('', 9.0, (9.0, 0.0)), Candidate('é', 1.0, (0.0, 1.0))],
  [],
]  # fmt: skip
NULLS = [Candidate('', s, (s, 0.0)) for s in (2.5, 2.0, -1.0)]


def test_v1_answers_every_question_it_has_a_candidate_for():
  answers = choose(IDS, CANDIDATES, None, QaConfig(n_best=2))
  assert answers.texts == answers.spans == ('a', 'é', '') and answers.odds_Q is None
  # The better of two spans with the same text stands for both.
  assert [c[:2] for c in answers.n_best[0]] == [('a', 3.0), ('b', 2.0)]


@pytest.mark.parametrize(
  ('threshold', 'texts'),
  [(-1.0, ('', '', '')), (-0.5, ('a', '', '')), (1.0, ('a', 'é', ''))],
)
def test_v2_is_silent_above_the_threshold(threshold, texts):
  qa = QaConfig(n_best=2, null_threshold=threshold)
  answers = choose(IDS, CANDIDATES, NULLS, qa)
  assert answers.texts == texts and answers.spans == ('a', 'é', '')
  np.testing.assert_array_equal(answers.odds_Q, [-0.5, 1.0, -1.0])
  assert [c.text for c in answers.n_best[0]] == ['a', '', 'b']
  assert [c.text for c in answers.n_best[1]] == ['', 'é']


def test_official_files(tmp_path):
  answers = choose(IDS, CANDIDATES, NULLS, QaConfig(n_best=1))
  write_answers(answers, tmp_path / 'eval_predictions.json')
  read = lambda name: json.loads((tmp_path / name).read_text(encoding='utf-8'))
  assert read('eval_predictions.json') == {'q1': 'a', 'q2': '', 'q3': ''}
  assert read('eval_null_odds.json') == {'q1': -0.5, 'q2': 1.0, 'q3': -1.0}
  n_best = read('eval_nbest_predictions.json')
  share = math.exp(3.0) / (math.exp(3.0) + math.exp(2.5))
  assert n_best['q1'] == [
    {
      'text': 'a',
      'probability': pytest.approx(share),
      'start_logit': 1.0,
      'end_logit': 2.0,
    },
    {
      'text': '',
      'probability': pytest.approx(1 - share),
      'start_logit': 2.5,
      'end_logit': 0.0,
    },
  ]
  assert [c['text'] for c in n_best['q2']] == ['', 'é']
  assert len(list(tmp_path.iterdir())) == 3


def test_v1_has_no_null_file_and_generated_text_has_scores(tmp_path):
  candidates = [[Candidate('x', -0.5)], [Candidate('y', -1.0)], []]
  answers = choose(IDS, candidates, None, QaConfig())
  write_answers(answers, tmp_path / 'mine.json')
  names = sorted(p.name for p in tmp_path.iterdir())
  assert names == ['mine.json', 'mine_nbest_predictions.json']
  n_best = json.loads((tmp_path / names[1]).read_text())
  assert n_best == {
    'q1': [{'text': 'x', 'probability': 1.0, 'score': -0.5}],
    'q2': [{'text': 'y', 'probability': 1.0, 'score': -1.0}],
    'q3': [],
  }


def test_plain_names_and_tables(tmp_path):
  answers = choose(IDS, CANDIDATES, NULLS, QaConfig())
  write_answers(answers, tmp_path / 'predictions.json')
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'nbest_predictions.json',
    'null_odds.json',
    'predictions.json',
  ]
  write_answers(answers, tmp_path / 'p.jsonl')
  lines = (tmp_path / 'p.jsonl').read_text(encoding='utf-8').splitlines()
  row = {'index': 0, 'prediction': 'a', 'id': 'q1', 'null_odds': -0.5}
  assert json.loads(lines[0]) == row


def test_all_files_of_an_answer_are_known_before_they_are_written(tmp_path):
  names = lambda path: [file.name for file in answer_files(path)]
  assert names(tmp_path / 'eval_predictions.json') == [
    'eval_predictions.json',
    'eval_nbest_predictions.json',
    'eval_null_odds.json',
  ]
  assert names(tmp_path / 'mine.JSON') == [
    'mine.JSON',
    'mine_nbest_predictions.json',
    'mine_null_odds.json',
  ]
  assert names(tmp_path / 'mine.tsv') == ['mine.tsv']
  with pytest.raises(ValueError, match=r"as '.xml'; choose from .*'.json'"):
    answer_files(tmp_path / 'mine.xml')
