"""Checks of questions, and the answer to train on."""

import logging

import numpy as np
import pytest

from adapad_jax.tasks.squad.questions import check_questions, find_span
from adapad_jax.tasks.table import Table


def table(*rows):
  names = ('id', 'context', 'question', 'answers')
  return Table(dict(zip(names, zip(*rows, strict=True), strict=True)), 'f.json')


def answers(*pairs):
  return {'text': [t for t, _ in pairs], 'answer_start': [s for _, s in pairs]}


def test_passages_are_kept_once():
  questions = check_questions(
    table(
      ('a', 'x y', '1?', answers(('y', 2))),
      ('b', 'z', '2?', answers(('z', 0))),
      ('c', 'x y', '3?', answers(('x', 0))),
    ),
    unanswerable=False,
  )
  assert questions.passages == ('x y', 'z')
  np.testing.assert_array_equal(questions.passage_Q, [0, 1, 0])
  np.testing.assert_array_equal(questions.span_Q2, [[2, 3], [0, 1], [0, 1]])
  assert questions.golds == (('y',), ('z',), ('x',)) and questions.passage(2) == 'x y'


@pytest.mark.parametrize(
  ('context', 'texts', 'starts', 'expected'),
  [
    ('one two one', ['one', 'one'], [8, 8], (8, 11)),  # The later of two.
    ('one two one', ['two', 'one', 'one'], [4, 0, 0], (0, 3)),  # Most annotators.
    ('one two one', ['two', 'one'], [4, 0], (4, 7)),  # The first of equals.
    ('one two one', ['one'], [7], (8, 11)),  # One off: the nearest.
    ('one two one', ['one'], [-1], (0, 3)),
    ('naïve 北京 über', ['北京'], [6], (6, 8)),  # Characters, not bytes.
    ('one', ['three'], [0], (-1, -1)),
    ('one', ['three', 'three', 'one'], [0, 0, 0], (0, 3)),  # The one that is there.
    ('one', ['', '', 'one'], [0, 0, 0], (0, 3)),
    ('one', [], [], (-1, -1)),
  ],
)
def test_find_span(context, texts, starts, expected):
  assert find_span(context, texts, starts) == expected


def test_an_answer_that_is_not_there_is_not_trained_on(caplog):
  rows = [
    ('a', 'x', '?', answers(('y', 0))),
    ('b', 'x', '?', answers()),
    ('c', 'x', '?', None),
  ]
  with caplog.at_level(logging.WARNING):
    questions = check_questions(table(*rows), unanswerable=True, required=False)
  np.testing.assert_array_equal(questions.weight_Q, [0, 1, 0])
  assert questions.golds == (('y',), (), None)
  assert 'the answers of 1 questions are not in their passages' in caplog.text


def test_an_empty_text_is_no_answer_where_there_may_be_none(caplog):
  rows = ('a', 'x', '?', answers(('', 0))), ('b', 'x', '?', answers(('x', 0)))
  with caplog.at_level(logging.WARNING):
    questions = check_questions(table(*rows), unanswerable=True)
  np.testing.assert_array_equal(questions.weight_Q, [1, 1])
  assert questions.golds == ((), ('x',)) and not caplog.text
  questions = check_questions(table(*rows), unanswerable=False)
  np.testing.assert_array_equal(questions.weight_Q, [0, 1])


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    (('a', ' ', '?', answers()), "column 'context' is empty in 1 of 2"),
    (('b', 'x', '?', answers(('x', 0))), "ids occur more than once, e.g. \\['b'\\]"),
    (('a', 'x', '?', answers()), "'a' is unanswerable; data.task='squad_v2'"),
    (('a', 'x', '?', None), "question 'a' has no answers"),
  ],
)
def test_refusals_name_the_question(row, message):
  good = ('b', 'x', '?', answers(('x', 0)))
  with pytest.raises(ValueError, match=message):
    check_questions(table(row, good), unanswerable=False)


@pytest.mark.parametrize('column', ['context', 'question'])
@pytest.mark.parametrize(
  'cell, message',
  [
    (['x'], 'is of type list'),
    (b'x', 'is of type bytes'),
    ('x\ud83d', 'half of a sur'),
  ],
)
def test_cells_that_are_no_text_are_named(column, cell, message):
  row = {'context': 'x', 'question': '?'} | {column: cell}
  bad = table(('a', row['context'], row['question'], None))
  with pytest.raises(ValueError, match=f"f.json: .*row 0 .* '{column}' .*{message}"):
    check_questions(bad, unanswerable=True, required=False)


def test_a_start_of_any_size_is_only_a_hint():
  assert find_span('one two', ['two'], [10**400]) == (4, 7)
