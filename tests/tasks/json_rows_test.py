"""Odd .jsonl and .json files: one object a row, or the line is named."""

import gzip
import json

import pytest

from adapad_jax.tasks.files import read_table
from adapad_jax.tasks.json_rows import load_json

ROWS = [{'text': 'a', 'label': 1}, {'text': 'b\u2028c\x85'}]
COLUMNS = {'text': ['a', 'b\u2028c\x85'], 'label': [1, None]}
DIGITS = '9' * 5000


def lines(rows, **options):
  return ''.join(json.dumps(row, **options) + '\n' for row in rows)


@pytest.mark.parametrize(
  'name, text, expected',
  [
    ('a.jsonl', lines(ROWS, ensure_ascii=False), [1, 2]),
    ('a.JSONL', '\ufeff\n' + lines(ROWS).replace('\n', '\r\n\r\n'), [2, 4]),
    ('a.jsonl', lines(ROWS).replace('\n', '\r'), [1, 2]),
    ('a.json', json.dumps(ROWS), [1, 1]),
    ('a.Json', '\ufeff' + json.dumps(ROWS, indent=1, ensure_ascii=False), [2, 6]),
  ],
)
def test_rows_and_their_lines(tmp_path, name, text, expected):
  path = tmp_path / name
  path.write_bytes(text.encode())
  table = read_table(path)
  assert table.columns == COLUMNS and list(table.line_N) == expected
  packed = tmp_path / f'{name}.gz'
  packed.write_bytes(gzip.compress(text.encode()))
  assert read_table(packed).columns == COLUMNS


@pytest.mark.parametrize(
  'name, text, message',
  [
    ('a.jsonl', '{"a": 1}\n{"b": 1, "b": 2}\n', "line 2: an object has 'b' more than"),
    (
      'a.jsonl',
      '{"m": {"x": 1, "x": 2}}\n',
      "line 1: an object has 'x' more than once",
    ),
    ('a.json', '[{"a": 1},\n{"b": 1, "b": 2}]', "row 1 .*line 2.*: an object has 'b'"),
    (
      'a.jsonl',
      '{"a": 1}\n[2]\n',
      r'line 2: expected one JSON object per line, got \[2',
    ),
    ('a.jsonl', '{"a": 1}\nnull\n', 'line 2: expected one JSON object'),
    ('a.jsonl', json.dumps(ROWS), 'one list of objects is named .json'),
    (
      'a.jsonl',
      json.dumps(ROWS, indent=1),
      'JSON .*one list of objects is named .json',
    ),
    ('a.json', lines(ROWS), 'one object a line is named .jsonl'),
    ('a.json', '[{"a": 1}, 2]', r'row 1 \(.*line 1\) must be a JSON object, got 2'),
    ('a.json', '[{"a": 1} {"a": 2}]', 'row 0 .*no comma or ]'),
    ('a.json', '[{"a": 1}', 'row 0 .*no comma or ]'),
    ('a.json', '[{"a": 1},\n]', r'row 1 \(counted from 0, line 2\): not JSON'),
    ('a.json', '[{"a": 1}] x', "'x' follows the list"),
    ('a.json', ' ', 'the file is empty'),
    ('a.jsonl', '{"a": "x\0"}', 'line 1: not JSON .*control character'),
    (
      'a.jsonl',
      f'{{"a": 1}}\n{{"a": {DIGITS}}}',
      'line 2: a number has more than 4300',
    ),
    ('a.json', f'[{{"a": {DIGITS}}}]', 'row 0 .*: a number has more than 4300 digits'),
    ('a.jsonl', '{"a": ' + '[' * 10**5, 'line 1: lists or objects are nested too deep'),
    ('a.json', '[' * 10**5, 'row 0 .*nested too deeply'),
  ],
)
def test_refusals_name_the_line(tmp_path, name, text, message):
  path = tmp_path / name
  path.write_text(text, encoding='utf-8')
  with pytest.raises(ValueError, match=f'{name}.*{message}') as told:
    read_table(path)
  assert '\n' not in str(told.value) and len(str(told.value)) < 400


def test_an_empty_list_has_no_columns(tmp_path):
  (tmp_path / 'a.json').write_text(' [ ] ')
  with pytest.raises(ValueError, match=r'it has \[\]; the file is empty'):
    read_table(tmp_path / 'a.json')['text']


@pytest.mark.parametrize(
  'text, message',
  [
    ('{"a": {"b": 1, "b": 2}}', "x.json: an object has 'b' more than once"),
    (f'[{DIGITS}]', 'x.json: a number has more than 4300 digits'),
    ('{"a": ', 'x.json: not JSON'),
    ('[' * 10**5, 'x.json: lists or objects are nested'),
  ],
)
def test_a_whole_file(tmp_path, text, message):
  (tmp_path / 'x.json').write_text(text)
  with pytest.raises(ValueError, match=message):
    load_json(tmp_path / 'x.json')
