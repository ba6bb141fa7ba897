"""Windows against the tokenizer's own, and answers back to their characters."""

import dataclasses
import json

import numpy as np
import pytest

from adapad_jax.tasks.config import QaConfig
from adapad_jax.tasks.squad.questions import Questions, check_questions
from adapad_jax.tasks.squad.reading import read_questions
from adapad_jax.tasks.squad.row_format import encode, span_format
from adapad_jax.tasks.squad.windows import (
  Windows,
  check_room,
  make_rows,
  token_spans,
  window_starts,
)
from adapad_jax.tasks.table import Table, subset

transformers = pytest.importorskip('transformers')

_WINDOWS = 'adapad_jax.tasks.squad.windows'

TEXT = (
  'Zürich  (北京) is naïve; Zürich is 3.5 km from the lake—and the lake from Zürich.'
  '\n“Answer 42”, said Ünïcödé O’Neil. The very end is \U0001f600 Zürich'
)


def questions_of(*rows):
  """(question, answer, nth occurrence of it in TEXT); None: unanswerable."""
  answers = []
  for _, text, nth in rows:
    places = [i for i in range(len(TEXT)) if text and TEXT.startswith(text, i)]
    pairs = [] if text is None else [places[nth]]
    answers.append({'text': [text] * len(pairs), 'answer_start': pairs})
  columns = {
    'id': [str(i) for i in range(len(rows))],
    'context': [TEXT] * len(rows),
    'question': [question for question, _, _ in rows],
    'answers': answers,
  }
  return check_questions(Table(columns, 'TEXT'), unanswerable=True)


@pytest.fixture(scope='module')
def qwen(shared):
  return transformers.AutoTokenizer.from_pretrained(
    shared / 'models' / 'qwen3-tokenizer'
  )


@pytest.fixture(scope='module')
def deberta(shared):
  return transformers.AutoTokenizer.from_pretrained(
    shared / 'models' / 'deberta-v3-tokenizer'
  )


@pytest.fixture(params=['tokenizer', 'deberta', 'qwen', 'stories'])
def any_tokenizer(request):
  if request.param == 'stories':
    shared = request.getfixturevalue('shared')
    return transformers.AutoTokenizer.from_pretrained(shared / 'models/stories260k')
  return request.getfixturevalue(request.param)


@pytest.mark.parametrize('name', ['tokenizer', 'deberta'])
def test_windows_are_the_tokenizers_own_on_real_passages(name, shared, request):
  tokenizer = request.getfixturevalue(name)
  path = shared / 'data' / 'squad' / 'dev-v2.0.part16.json'
  table = subset(read_questions(path), 60)
  questions = check_questions(table, unanswerable=True)
  qa, length = QaConfig(overlap=24), 96
  rows = make_rows(questions, span_format(tokenizer), tokenizer, qa, length)
  expected = tokenizer(
    list(questions.questions),
    [questions.passage(i) for i in range(len(questions))],
    truncation='only_second',
    max_length=length,
    stride=24,
    return_overflowing_tokens=True,
    return_offsets_mapping=True,
    padding='max_length',
  )
  columns = rows.columns
  np.testing.assert_array_equal(columns['ids_BL'], expected['input_ids'])
  np.testing.assert_array_equal(columns['mask_BL'], expected['attention_mask'])
  np.testing.assert_array_equal(columns['types_BL'], expected['token_type_ids'])
  windows = rows.windows
  owner = expected['overflow_to_sample_mapping']
  np.testing.assert_array_equal(windows.question_N, owner)
  assert len(windows) > 1.5 * len(questions) and rows.cut == 0
  for row in range(len(windows)):
    first, size = windows.first_N[row], windows.size_N[row]
    texts = expected.sequence_ids(row)
    assert [i for i, text in enumerate(texts) if text == 1] == list(
      range(first, first + size)
    )
    chars = windows.chars_T2[windows.at_N[row] : windows.at_N[row] + size]
    np.testing.assert_array_equal(
      chars, expected['offset_mapping'][row][first : first + size]
    )


def test_real_answers_come_back_from_their_tokens(tokenizer, shared):
  """All come back, and exactly unless they end inside a token."""
  path = shared / 'data' / 'squad' / 'dev-v1.1.json'
  article = json.loads(path.read_text(encoding='utf-8'))['data'][0]
  rows = [
    (qa['id'], p['context'], qa['question'], qa['answers'][0])
    for p in article['paragraphs']
    for qa in p['qas']
  ]
  ids, contexts, asked, golds = zip(*rows, strict=True)
  answers = [{'text': [g['text']], 'answer_start': [g['answer_start']]} for g in golds]
  names = {'id': ids, 'context': contexts, 'question': asked, 'answers': answers}
  questions = check_questions(Table(names, 'x'), unanswerable=False)
  made = make_rows(questions, span_format(tokenizer), tokenizer, QaConfig(), 256)
  windows = made.windows
  spans = token_spans(windows, questions)
  held = spans[:, 0] >= 0
  assert set(windows.question_N[held]) == set(range(len(questions)))
  exact = 0
  for row in np.flatnonzero(held):
    tokens = spans[row] - windows.first_N[row] + windows.at_N[row]
    low, high = windows.chars_T2[tokens[0], 0], windows.chars_T2[tokens[1], 1]
    number = windows.question_N[row]
    text, gold = questions.passage(number)[low:high], golds[number]['text']
    assert gold in text
    exact += text == gold
  assert exact / held.sum() > 0.97


@pytest.mark.parametrize(
  ('answer', 'nth'),
  [
    ('Zürich', 0),
    ('Zürich', 1),
    ('Zürich', 2),
    ('Zürich', 3),
    ('北京', 0),
    ('京', 0),
    ('naïve', 0),
    ('3.5 km', 0),
    ('42', 0),
    ('Ünïcödé O’Neil', 0),
    ('\U0001f600', 0),
    (TEXT, 0),
  ],
)
def test_spans_cover_their_answer_whatever_the_tokenizer(any_tokenizer, answer, nth):
  questions = questions_of(('Where?', answer, nth))
  rows = make_rows(
    questions, span_format(any_tokenizer), any_tokenizer, QaConfig(), 384
  )
  windows = rows.windows
  first, last = token_spans(windows, questions)[0]
  assert len(windows) == 1 and first >= windows.first_N[0]
  at = windows.at_N[0] - windows.first_N[0]
  low, high = windows.chars_T2[first + at, 0], windows.chars_T2[last + at, 1]
  start = questions.span_Q2[0, 0]
  assert low <= start and high >= start + len(answer)
  inner = TEXT[windows.chars_T2[first + at, 1] : windows.chars_T2[last + at, 0]]
  assert len(inner) < len(answer)  # No token on either side is superfluous.


def test_a_cut_answer_is_in_no_window_and_a_whole_one_in_each_that_has_it(tokenizer):
  questions = questions_of(('a?', 'O’Neil', 0), ('b?', None, 0), ('c?', 'Zürich', 1))
  qa = QaConfig(overlap=3, max_question=4)
  rows = make_rows(questions, span_format(tokenizer), tokenizer, qa, 16)
  windows = rows.windows
  spans = token_spans(windows, questions)
  for row, number in enumerate(windows.question_N):
    span = slice(windows.at_N[row], windows.at_N[row] + windows.size_N[row])
    low, high = windows.chars_T2[span][0, 0], windows.chars_T2[span][-1, 1]
    start, end = questions.span_Q2[number]
    whole = 0 <= start and low <= start and end <= high
    assert (spans[row, 0] >= 0) == whole
  for number, found in ((0, True), (1, False), (2, True)):
    assert (spans[windows.question_N == number, 0] >= 0).any() == found
  # Windows that share no token cut what lies across their border.
  halves = make_rows(
    questions, span_format(tokenizer), tokenizer, QaConfig(overlap=0), 128
  )
  assert len(halves.windows) == 3
  wide = questions_of(('a?', TEXT[5:120], 0))
  rows = make_rows(wide, span_format(tokenizer), tokenizer, QaConfig(overlap=2), 90)
  short = make_rows(
    wide, span_format(tokenizer), tokenizer, QaConfig(overlap=2, max_question=1), 20
  )
  assert (token_spans(rows.windows, wide)[:, 0] >= 0).any()
  assert (token_spans(short.windows, wide)[:, 0] < 0).all()


def test_spans_are_those_of_one_question_after_the_other():
  """Tokens that share characters, gaps, passages of one token, no answers."""
  rng = np.random.default_rng(0)
  for _ in range(30):
    passages, rows, spans = [], [], []
    for _ in range(4):
      end_T = np.cumsum(rng.integers(0, 4, rng.integers(1, 12))) + 1
      start_T = np.maximum(end_T - rng.integers(0, 4, len(end_T)), 0)
      passages.append(np.stack([np.maximum.accumulate(start_T), end_T], axis=1))
    before = np.cumsum([0, *map(len, passages)])
    for number, passage in enumerate(rng.integers(0, 4, 10)):
      size, (low, high) = int(rng.integers(2, 6)), sorted(rng.integers(0, 30, 2))
      spans.append((low, high + 1) if rng.random() < 0.8 else (-1, -1))
      for at in window_starts(len(passages[passage]), size, 1):
        held = min(size, len(passages[passage]) - at)
        rows.append((number, rng.integers(1, 9), held, before[passage] + at, 0))
    made = Windows(*np.array(rows).T, chars_T2=np.concatenate(passages))
    nothing = ('',) * len(spans)
    questions = Questions(
      nothing, nothing, nothing, np.zeros(10), nothing, np.array(spans)
    )
    want = [span_of(made, row, spans) for row in range(len(made))]
    np.testing.assert_array_equal(token_spans(made, questions), want)


def span_of(windows, row, spans):
  """What `token_spans` says of a row, token by token."""
  low, high = spans[windows.question_N[row]]
  mine = windows.question_N == windows.question_N[row]
  at, stop = windows.at_N[mine].min(), (windows.at_N + windows.size_N)[mine].max()
  tokens = range(at, stop)
  first = sum(windows.chars_T2[t, 1] <= low for t in tokens) + at
  last = sum(windows.chars_T2[t, 0] < high for t in tokens) + at - 1
  begin = windows.at_N[row]
  if low < 0 or not begin <= first <= last < begin + windows.size_N[row]:
    return -1, -1
  column = windows.first_N[row] - begin
  return first + column, last + column


def test_long_questions_are_cut_and_counted(tokenizer):
  questions = questions_of(('why ' * 500, '42', 0), ('why?', '42', 0))
  qa = QaConfig(max_question=10, overlap=4)
  rows = make_rows(questions, span_format(tokenizer), tokenizer, qa, 24)
  assert rows.cut == 1 and rows.columns['mask_BL'].lengths_N.max() == 24
  why = encode(tokenizer, 'why')[0]
  first = rows.columns['ids_BL'][0].tolist()
  assert first[:12] == [tokenizer.cls_token_id, *[why] * 10, first[11]] != [why] * 12


def test_a_causal_row_asks_first_and_ends_with_the_end_of_text(qwen):
  questions = questions_of(('Where is it?', '42', 0))
  row_format = span_format(qwen)
  rows = make_rows(questions, row_format, qwen, QaConfig(), 256)
  ids = rows.columns['ids_BL'][0][: rows.columns['mask_BL'].lengths_N[0]]
  assert qwen.decode(ids) == f'Where is it?\n{TEXT}{qwen.eos_token}'
  assert rows.windows.null_N[0] == len(ids) - 1 and 'types_BL' not in rows.columns


def same(one, other):
  for name in one.columns | other.columns:
    np.testing.assert_array_equal(one.columns[name][:], other.columns[name][:])
  for field in dataclasses.fields(Windows):
    mine, theirs = (getattr(rows.windows, field.name) for rows in (one, other))
    np.testing.assert_array_equal(mine, theirs)
  assert one.cut == other.cut


@pytest.mark.parametrize('name', ['tokenizer', 'qwen'])
def test_rows_of_many_questions_are_kept(name, request, tmp_path, monkeypatch):
  tokenizer = request.getfixturevalue(name)
  questions = questions_of(('a?', 'O’Neil', 0), ('why ' * 9, None, 0), ('c?', '42', 0))
  row_format, qa = span_format(tokenizer), QaConfig(overlap=3, max_question=4)
  start = lambda asked=questions, length=24, qa=qa: make_rows(
    asked, row_format, tokenizer, qa, length, str(tmp_path)
  )
  plain = start()
  monkeypatch.setattr('adapad_jax.tasks.tokenise._MANY', 3)
  monkeypatch.setattr(f'{_WINDOWS}._CHUNK', 2)
  same(start(), plain)
  monkeypatch.setattr(f'{_WINDOWS}.encode_all', lambda *_: pytest.fail('made again'))
  same(start(), plain)
  assert len(list(tmp_path.iterdir())) == 1
  monkeypatch.undo()
  monkeypatch.setattr('adapad_jax.tasks.tokenise._MANY', 3)
  changes = [
    {'length': 25},
    {'qa': QaConfig(overlap=4, max_question=4)},
    {'qa': QaConfig(overlap=3, max_question=3)},
    {'asked': questions_of(('b?', '42', 0), ('why?', None, 0), ('c?', '42', 0))},
  ]
  for count, change in enumerate(changes, 2):
    start(**change)
    assert len(list(tmp_path.iterdir())) == count


def test_an_encoders_null_token_comes_first(tokenizer):
  row_format = span_format(tokenizer)
  assert row_format.null_first and row_format.prefix == (tokenizer.cls_token_id,)


def test_window_starts_by_hand():
  assert list(window_starts(10, 10, 4)) == [0]
  assert list(window_starts(11, 10, 4)) == [0, 6]
  assert list(window_starts(16, 10, 4)) == [0, 6]
  assert list(window_starts(17, 10, 4)) == [0, 6, 12]
  assert list(window_starts(2, 10, 4)) == [0]


def test_windows_that_could_not_move_are_refused(tokenizer):
  row_format = span_format(tokenizer)
  check_room(row_format, QaConfig(max_question=10, overlap=20), 34)
  with pytest.raises(ValueError, match='leaves 20 tokens.*data.qa.overlap=20'):
    check_room(row_format, QaConfig(max_question=10, overlap=20), 33)
