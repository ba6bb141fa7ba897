"""Question files in every layout, and what is refused."""

import gzip
import json

import pytest

from adapad_jax.origins import HubCommit
from adapad_jax.tasks import DataConfig
from adapad_jax.tasks.reader import Reader, hub_of
from adapad_jax.tasks.squad import reading
from adapad_jax.tasks.squad.reading import COLUMNS, find_tables, read_questions
from adapad_jax.tasks.table import Table

ANSWERED = {
  'id': 'q1',
  'question': 'Who?',
  'answers': [{'text': 'Ann', 'answer_start': 0}, {'text': 'Ann', 'answer_start': 9}],
}
IMPOSSIBLE = {'id': 'q2', 'question': 'Why?', 'is_impossible': True, 'answers': []}
PARAGRAPH = {'context': 'Ann, not Ann.', 'qas': [ANSWERED, IMPOSSIBLE]}
OFFICIAL = {
  'version': 'v2.0',
  'data': [{'title': 'Names', 'paragraphs': [PARAGRAPH]}],
}
ROWS = {
  'id': ['q1', 'q2'],
  'title': ['Names', 'Names'],
  'context': ['Ann, not Ann.'] * 2,
  'question': ['Who?', 'Why?'],
  'answers': [
    {'text': ['Ann', 'Ann'], 'answer_start': [0, 9]},
    {'text': [], 'answer_start': []},
  ],
}


def write(path, value):
  path.write_text(json.dumps(value), encoding='utf-8')
  return path


def test_official_layout_has_the_columns_of_the_hub(tmp_path):
  assert read_questions(write(tmp_path / 'dev.json', OFFICIAL)).columns == ROWS


def test_flat_layouts_are_the_same(tmp_path):
  flat = [dict(zip(ROWS, row, strict=True)) for row in zip(*ROWS.values(), strict=True)]
  assert read_questions(write(tmp_path / 'a.json', flat)).columns == ROWS
  assert read_questions(write(tmp_path / 'b.json', {'data': flat})).columns == ROWS
  lines = tmp_path / 'c.jsonl'
  lines.write_text('\n'.join(json.dumps(row) for row in flat))
  assert read_questions(lines).columns == ROWS


def test_a_users_question_needs_only_a_passage(tmp_path):
  asked = [
    {'question': 'Wer?', 'context': 'Jürgen.'},
    {'question': '?', 'context': 'x'},
  ]
  table = read_questions(write(tmp_path / 'mine.json', asked))
  assert tuple(table.columns) == COLUMNS
  assert table['id'] == ['0', '1'] and table['answers'] == [None, None]
  assert table['title'] == ['Jürgen.', 'x']
  lines = tmp_path / 'mine.jsonl'
  lines.write_text('\n'.join(json.dumps(row) for row in asked))
  assert read_questions(lines).columns == table.columns


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    ({'rows': []}, "expected a list of questions or articles, or one under 'data'"),
    (['text'], "expected an object with .*'question'.*, got 'text'"),
    ([{'question': 'Who?'}], "'context' is missing at 'Who\\?'"),
    ([{'paragraphs': [{'context': 'x'}]}], "'qas' is missing"),
    ([{'paragraphs': [{'context': 'x', 'qas': [{'id': 'z'}]}]}], "missing at 'z'"),
    (
      [{'question': '?', 'context': 'x', 'answers': [{'text': 'x'}]}],
      "'answer_start' is missing",
    ),
  ],
)
def test_what_is_missing_is_named(tmp_path, value, message):
  with pytest.raises(ValueError, match=message):
    read_questions(write(tmp_path / 'bad.json', value))


def answered(answers):
  return [{'id': 'a', 'question': '?', 'context': 'c d'}, ASKED | {'answers': answers}]


ASKED = {'id': 'z', 'question': '?', 'context': 'c d'}


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (answered(['c']), "question 'z': expected an object with .*'text'.*, got 'c'"),
    (answered('c'), "question 'z': 'answers' must be a list of objects.*got 'c'"),
    (answered(3), "question 'z': 'answers' must be a list"),
    (
      answered({'text': ['c'], 'answer_start': 0}),
      "question 'z': 'answer_start' of its answers must be of type int each, got 0",
    ),
    (answered({'text': 'c', 'answer_start': [0]}), "question 'z': 'text'.*got 'c'"),
    (answered([{'text': None, 'answer_start': 0}]), "question 'z': 'text'.*None"),
    (
      answered({'text': ['c', 'd'], 'answer_start': [0]}),
      "question 'z': there are 2 'text' but 1 'answer_start'",
    ),
    ([{'paragraphs': None, 'title': 'T'}], "'paragraphs' at 'T' must be a list"),
    ([{'paragraphs': ['p']}], "expected an object with .*'qas'.*, got 'p'"),
    ([{'paragraphs': [{'context': 'c', 'qas': {}}]}], "'qas' at 'c' must be a list"),
    (
      [{'paragraphs': [{'context': 'c', 'qas': ['what']}]}],
      "expected an object with .*'question'.*, got 'what'",
    ),
  ],
)
def test_what_is_malformed_is_refused_with_its_file_and_question(
  tmp_path, value, message
):
  with pytest.raises(ValueError, match=f'bad.json: .*{message}'):
    read_questions(write(tmp_path / 'bad.json', value))


def test_answers_in_a_table_are_checked_alike(tmp_path):
  cells = tmp_path / 'mine.csv'
  cells.write_text('id,question,context,answers\nz,?,c d,c\n')
  with pytest.raises(ValueError, match="mine.csv: question 'z': 'answers' must be"):
    read_questions(cells)
  lines = tmp_path / 'mine.jsonl'
  lines.write_text('\n'.join(json.dumps(row) for row in answered(['c'])))
  with pytest.raises(ValueError, match="mine.jsonl: question 'z': expected an object"):
    read_questions(lines)


def test_ids_that_are_made_up_are_none_that_are_given(tmp_path):
  ids = [1, None, '2', None, None]
  asked = [ASKED | {'id': name} for name in ids]
  del asked[3]['id']
  expected = ['1', '3', '2', '4', '5']
  assert read_questions(write(tmp_path / 'mine.json', asked))['id'] == expected
  lines = tmp_path / 'mine.jsonl'
  lines.write_text('\n'.join(json.dumps(row) for row in asked))
  assert read_questions(lines)['id'] == expected


def test_a_folder_of_official_files(tmp_path):
  write(tmp_path / 'train-v2.0.json', OFFICIAL)
  write(tmp_path / 'dev-v2.0.json', OFFICIAL)
  write(tmp_path / 'dev-v1.1.json', OFFICIAL)
  config = DataConfig(task='squad_v2', path=str(tmp_path))
  found = find_tables(config)
  assert sorted(found) == ['train', 'validation']
  assert found['validation']().source.endswith('dev-v2.0.json')
  with pytest.raises(
    ValueError, match="'squad' needs data.train=FILE.*train-v1.1.json"
  ):
    find_tables(DataConfig(task='squad', path=str(tmp_path)))
  with pytest.raises(ValueError, match='no such folder'):
    find_tables(DataConfig(task='squad', path=str(tmp_path / 'none')))


def test_a_folder_of_files_named_after_splits_and_a_file_that_is_named(tmp_path):
  write(tmp_path / 'train.json', OFFICIAL)
  own = write(tmp_path / 'mine.json', [{'question': '?', 'context': 'x'}])
  found = find_tables(DataConfig(task='squad_v2', path=str(tmp_path), test=str(own)))
  assert found['train']().columns == ROWS
  assert found['test']()['context'] == ['x']


def test_the_hub_is_asked_last(monkeypatch):
  asked = []
  plain = {'context': ['x'], 'question': ['?'], 'answers': [['x']]}

  def hub(repository, subset, instead):
    asked.append((repository.name, subset))
    answered, bare = Table(ROWS, repository.name), Table(plain, repository.name)
    commit = HubCommit(repository.name, 'main', '0' * 40)
    read = lambda table: Reader(lambda: table, hub=commit)
    return {'train': read(answered), 'validation': read(bare)}

  monkeypatch.setattr(reading, 'hub_tables', hub)
  found = find_tables(DataConfig(task='squad'))
  assert sorted(found) == ['train', 'validation']
  assert found['train']().columns == ROWS
  with pytest.raises(ValueError, match="rajpurkar/squad: question '0': expected an"):
    found['validation']()
  find_tables(DataConfig(task='squad_v2'))
  assert asked == [('rajpurkar/squad', ''), ('rajpurkar/squad_v2', '')]
  assert hub_of(found.values()).repo == 'rajpurkar/squad'


def test_a_saved_dataset(tmp_path):
  datasets = pytest.importorskip('datasets')
  rows = datasets.Dataset.from_dict(ROWS)
  saved = datasets.DatasetDict(train=rows, test=rows.remove_columns(['id', 'title']))
  saved.save_to_disk(tmp_path / 'saved')
  found = find_tables(DataConfig(task='squad_v2', path=str(tmp_path / 'saved')))
  assert found['train']().columns == ROWS
  assert found['test']()['id'] == ['0', '1']
  assert found['test']()['title'] == ROWS['context']


def test_packed_files_in_any_spelling(tmp_path):
  path = tmp_path / 'dev.JSON.gz'
  path.write_bytes(gzip.compress(json.dumps(OFFICIAL).encode()))
  assert read_questions(path).columns == ROWS


@pytest.mark.parametrize(
  'content, message',
  [
    (b'{"data": [{"data": 1, "data": 2}]}', "an object has 'data' more than once"),
    (b'\xff\xfe[\x00]\x00', 'bad.json is UTF-16'),
    (b'[{"question": "caf\xe9"}]', r'byte 18 \(.* is 0xe9, which is not UTF-8'),
    (gzip.compress(b'[]', mtime=0), 'bad.json is gzip'),
    (b'[' + b'9' * 5000 + b']', 'a number has more than 4300 digits'),
    (b'[' * 10**5, 'nested too deeply'),
    (b'', 'not JSON'),
  ],
)
def test_files_that_are_no_json_are_named(tmp_path, content, message):
  (tmp_path / 'bad.json').write_bytes(content)
  with pytest.raises(ValueError, match=f'(?s)bad.json.*{message}|{message}'):
    read_questions(tmp_path / 'bad.json')


@pytest.mark.parametrize(
  'field, value, message',
  [
    ('id', ['q'], "row 0 .* 'id' is of type list"),
    ('id', 'q\ud83d', "row 0 .* 'id' holds half of a surrogate pair"),
    ('title', {'a': 1}, "row 0 .* 'title' is of type dict"),
    ('context', ['x'], "row 0 .* 'context' is of type list"),
    ('question', {'a': 1}, "row 0 .* 'question' is of type dict"),
    ('answers', [{'text': 'c\ud83d', 'answer_start': 0}], "'z': an answer holds half"),
    ('answers', [{'text': 'c\0', 'answer_start': 0}], "'z': an answer holds half"),
  ],
)
@pytest.mark.parametrize('suffix', ['json', 'jsonl'])
def test_cells_that_are_no_text_are_named(tmp_path, suffix, field, value, message):
  row = ASKED | {field: value}
  path = write(tmp_path / f'bad.{suffix}', [row] if suffix == 'json' else row)
  with pytest.raises(ValueError, match=f'bad.{suffix}: .*{message}'):
    read_questions(path)


def test_answers_that_nobody_needs_may_be_anything(tmp_path):
  for value in (
    'c',
    3,
    ['c'],
    [{'text': 'c'}],
    [{'text': 'c\ud83d', 'answer_start': 0}],
  ):
    table = read_questions(write(tmp_path / 'a.json', answered(value)), required=False)
    assert table['answers'] == [None, None]


def test_ids_that_are_blank_are_made_up(tmp_path):
  cells = tmp_path / 'mine.csv'
  cells.write_text('id,question,context\n,?,c d\n,?,c d\n')
  assert read_questions(cells)['id'] == ['0', '1']


@pytest.mark.parametrize('other', ['train.json', 'train.jsonl', 'train-v2.0.JSON.gz'])
def test_two_files_of_one_split_are_ambiguous(tmp_path, other):
  write(tmp_path / 'train-v2.0.json', OFFICIAL)
  write(tmp_path / other, OFFICIAL)
  with pytest.raises(ValueError, match="2 files for the split 'train'"):
    find_tables(DataConfig(task='squad_v2', path=str(tmp_path)))
  named = str(tmp_path / other)
  find_tables(DataConfig(task='squad_v2', path=str(tmp_path), train=named))
