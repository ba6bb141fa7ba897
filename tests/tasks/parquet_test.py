"""Odd .parquet files."""

import datetime
import decimal
import re

import pytest

from adapad_jax.tasks.files import read_table
from adapad_jax.tasks.parquet import each_row

pyarrow = pytest.importorskip('pyarrow')
parquet = pytest.importorskip('pyarrow.parquet')


def write(path, table):
  parquet.write_table(table, path)
  return path


def test_columns_of_every_plain_type(tmp_path):
  when = pyarrow.array([1, 2], pyarrow.timestamp('ns'))  # No Python type holds these.
  columns = {
    'text': ['a', None],
    'large': pyarrow.array(['a', 'é'], pyarrow.large_string()),
    'class': pyarrow.array(['p', 'n']).dictionary_encode(),
    'whole': [1, None],
    'exact': [decimal.Decimal('1.0'), None],
    'day': [datetime.date(2020, 1, 2), None],
    'when': when,
  }
  found = read_table(write(tmp_path / 'a.PARQUET', pyarrow.table(columns))).columns
  assert found['text'] == ['a', None] and found['large'] == ['a', 'é']
  assert found['class'] == ['p', 'n'] and found['whole'] == [1, None]
  assert found['exact'] == [1, None] and len(found['when']) == 2


def test_columns_of_one_name(tmp_path):
  names = ['text', 'label', 'label']
  table = pyarrow.Table.from_arrays([pyarrow.array(['a'])] * 3, names=names)
  with pytest.raises(ValueError, match="a.parquet has more than one column .*'label'"):
    read_table(write(tmp_path / 'a.parquet', table))


def test_text_that_is_not_utf8_is_named_by_row(tmp_path):
  raw = pyarrow.array([b'ok', b'caf\xe9'], pyarrow.binary())
  text = pyarrow.Array.from_buffers(pyarrow.string(), 2, raw.buffers())
  path = write(tmp_path / 'a.parquet', pyarrow.table({'text': text}))
  with pytest.raises(ValueError, match=r"a.parquet: .*row 1 .*'text' is not UTF-8"):
    read_table(path)
  rows = each_row(path)
  with pytest.raises(ValueError, match=r'a.parquet: row 1 \(counted from 0\) cannot'):
    list(rows)


@pytest.mark.parametrize('content', [b'', b'PAR1xxxx', b'text,label\n', b'PK\x03\x04'])
def test_what_is_no_parquet(tmp_path, content):
  path = tmp_path / 'a.parquet'
  path.write_bytes(content)
  message = f'^{re.escape(str(path))}: no parquet file that can be read'
  with pytest.raises(ValueError, match=message) as told:
    read_table(path)
  assert '\n' not in str(told.value)
  with pytest.raises(ValueError, match=message):
    list(each_row(path))
