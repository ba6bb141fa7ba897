"""Odd .csv and .tsv files: every row is there, or its line is named."""

import re

import pytest

from adapad_jax.tasks.delimited import read_rows, read_tsv
from adapad_jax.tasks.files import read_table

HEAD = 'text,label\n'
MANY = ','.join(f'c{i}' for i in range(3000))


def read(folder, name, text):
  path = folder / name
  path.write_bytes(text.encode())
  return read_table(path)


def rows(table):
  return [*zip(*table.columns.values(), strict=True)]


@pytest.mark.parametrize(
  'name, text, expected, lines',
  [
    # A blank line in the middle is a row; at the end it ends the file.
    (
      'a.csv',
      HEAD + 'a,1\n\nb,0\n\n\n',
      [('a', '1'), (None, None), ('b', '0')],
      [2, 3, 4],
    ),
    (
      'a.tsv',
      'x\ty\na\t1\n\nb\t0\n\n',
      [('a', '1'), (None, None), ('b', '0')],
      [2, 3, 4],
    ),
    # With one column there is no telling, so it always is one.
    (
      'a.csv',
      'x\na\n\nb\n""\nc\n\n',
      ['a', None, 'b', '', 'c', None],
      [2, 3, 4, 5, 6, 7],
    ),
    ('a.tsv', 'x\na\n\nb\n\n', ['a', None, 'b', None], [2, 3, 4, 5]),
    ('a.tsv', 'x\r\na\r\n\r\nb', ['a', None, 'b'], [2, 3, 4]),
    # A line is not a row.
    ('a.csv', HEAD + '"a\nb\n",1\nc,0\n', [('a\nb\n', '1'), ('c', '0')], [2, 5]),
    ('a.csv', HEAD + '"a\r\nb",1\r\nc,0\r\n', [('a\r\nb', '1'), ('c', '0')], [2, 4]),
    ('a.csv', HEAD + '"a\rb",1\nc,0\n', [('a\rb', '1'), ('c', '0')], [2, 3]),
    ('a.csv', HEAD + 'a\u2028b\x85\x0c,1\n', [('a\u2028b\x85\x0c', '1')], [2]),
    ('a.tsv', 'x\ty\na\u2028b\x0c\t1\n', [('a\u2028b\x0c', '1')], [2]),
    ('a.tsv', 'x\ty\n"a\t1\nb"\t0\n', [('"a', '1'), ('b"', '0')], [2, 3]),
    ('a.csv', HEAD + '5" disk,1\n', [('5" disk', '1')], [2]),
    ('a.csv', HEAD + 'a\n,\n', [('a', None), ('', '')], [2, 3]),
    ('a.csv', ',text\n0,a\n', [('0', 'a')], [2]),
    ('A.CSV', '\ufeff"x"\r"a"\r', ['a'], [2]),
    ('a.csv', HEAD, [], []),
  ],
)
def test_every_row_is_there_with_its_line(tmp_path, name, text, expected, lines):
  table = read(tmp_path, name, text)
  one_by_one = [tuple(row.values()) for row in read_rows(tmp_path / name)]
  assert one_by_one == rows(table)
  if expected and not isinstance(expected[0], tuple):
    expected = [(cell,) for cell in expected]
  assert rows(table) == expected and list(table.line_N) == lines


def test_more_rows_than_are_moved_at_once(tmp_path):
  """Blocks of rows keep their order, short rows and the blank lines at the end."""
  text = HEAD + ''.join(f'{i},x\n' if i % 7 else f'{i}\n' for i in range(5000)) + '\n\n'
  table = read(tmp_path, 'a.csv', text)
  assert table['text'] == [str(i) for i in range(5000)]
  assert table['label'] == ['x' if i % 7 else None for i in range(5000)]
  assert list(table.line_N) == list(range(2, 5002))


@pytest.mark.parametrize(
  'name, text, message',
  [
    ('a.csv', 'text,label,label\na,1,0\n', r"more than one column named 'label'; .*"),
    ('a.csv', 'text,text,b,b\n', "named 'text', 'b'; "),
    ('a.csv', 'text,label,,\na,1,,\n', "more than one column named ''"),
    ('a.tsv', 'text\tlabel\tlabel\n', "more than one column named 'label'"),
    ('a.csv', HEAD + 'a,1\nb,c,0\n', r'row 1 \(.* line 3\) has 3 cells, but .*quotes'),
    ('a.csv', HEAD + '"a\n",1\nb,c,0\n', r'row 1 \(counted from 0, line 4\) has 3'),
    ('a.tsv', 'x\ty\na\tb\tc\n', r'row 0 \(counted from 0, line 2\) has 3 cells'),
    ('a.csv', 'a;b\nx, y;1\n', '1 columns: .*no commas, but semicolons: save it with'),
    ('a.csv', HEAD + 'a,1\n"b,0\nc,1\n', 'starts on line 3: a quote .* never closed'),
    ('a.csv', HEAD + '"a\nb" c,0\n', 'starts on line 2: text follows the quote'),
    ('a.csv', HEAD + 'a,1\nb\rc,0\n', 'starts on line 3: a carriage return'),
  ],
)
def test_refusals_name_the_line(tmp_path, name, text, message):
  with pytest.raises(ValueError, match=f'{re.escape(name)}:? .*{message}') as told:
    read(tmp_path, name, text)
  assert '\n' not in str(told.value) and len(str(told.value)) < 500
  with pytest.raises(ValueError, match=f'^{re.escape(str(told.value))}$'):
    list(read_rows(tmp_path / name))


@pytest.mark.parametrize(
  'name, text, message',
  [
    ('a.csv', '', r'no column .text.; it has \[\]; the file is empty'),
    ('a.csv', '\n\n', 'the file is empty'),
    ('a.tsv', '', 'the file is empty'),
    ('a.csv', '\ufeff', 'the file is empty'),
    ('a.csv', '\ntext,label\na,1\n', 'first line of the file is blank, but must name'),
    ('a.csv', 'good film,pos\n', 'the first line of the file must name the columns'),
    ('a.csv', 'text;label\na;1\n', r'it has \[.text;label.\]; the first line has no'),
    (
      'a.csv',
      'text\tlabel\n',
      'no commas, but tabs: save it with commas, or name it .t',
    ),
    (
      'a.tsv',
      'text,label\n',
      'no tabs, but commas: save it with tabs, or name it .csv',
    ),
    ('a.csv', ' text,label\n', "did you mean ' text'"),
    ('a.csv', f'{MANY}\n{MANY}\n', "'c19'] and 2980 more"),
    ('a.csv', 'w ' * 9999 + ',label\n', r"w\.\.\.', 'label'"),
  ],
)
def test_a_missing_column_says_what_may_be_wrong(tmp_path, name, text, message):
  with pytest.raises(ValueError, match=message.replace("'] and", r"'\] and")) as told:
    read(tmp_path, name, text)['text']
  assert len(str(told.value)) < 500


def test_columns_that_nobody_needs_are_left_out(tmp_path):
  path = tmp_path / 'a.tsv'
  path.write_text('x\ty\tz\n1\t2\t3\n4\n')
  assert read_tsv(path, only=('z', 'x')).columns == {'x': ['1', '4'], 'z': ['3', None]}
  whole = {'x': ['1', '4'], 'y': ['2', None], 'z': ['3', None]}
  assert read_tsv(path).columns == read_tsv(path, only=('x', 'label')).columns == whole
