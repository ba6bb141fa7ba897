"""Rows of files, folders and data sets, against what was written."""

import csv
import gzip
import json
import re

import pytest

from adapad_jax.tasks import DataConfig
from adapad_jax.tasks.sft.reading import read_all, read_file, splits_of
from tests.hub import repositories
from tests.hub.client import connected

ROWS = [{'question': 'Who, "me"?', 'answer': 'A\n1'}, {'question': 'é', 'answer': '2'}]


def rows_of(rows):
  return [row for _, row in rows.read()]


def write(folder, name):
  path = folder / name
  kind = name.removesuffix('.gz').rpartition('.')[2]
  if kind == 'parquet':
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path
  opened = gzip.open if name.endswith('.gz') else open
  with opened(path, 'wt', encoding='utf-8', newline='') as file:
    if kind == 'jsonl':
      file.write('\n'.join(map(json.dumps, ROWS)) + '\n\n')
    elif kind == 'json':
      json.dump(ROWS, file, indent=2)
    else:
      writer = csv.DictWriter(file, ['question', 'answer'])
      writer.writeheader()
      writer.writerows(ROWS)
  return path


@pytest.mark.parametrize(
  'name', ['a.jsonl', 'a.json', 'a.csv', 'A.CSV', 'a.parquet', 'a.jsonl.gz', 'a.csv.gz']
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name):
  rows = read_file(write(tmp_path, name))
  assert rows_of(rows) == ROWS and rows_of(rows) == ROWS  # It can be read again.
  numbers = [number for number, _ in rows.read()]
  assert numbers == ([1, 2] if 'jsonl' in name else [0, 1])
  assert rows.digest() == read_file(tmp_path / name).digest()


def test_a_tsv_knows_no_quotes(tmp_path):
  path = tmp_path / 'a.tsv'
  path.write_text('question\tanswer\nwho\t"me" he said\nwhat\t"open\nwhy\tso\n')
  assert [row['answer'] for row in rows_of(read_file(path))] == [
    '"me" he said', '"open', 'so']  # fmt: skip


def test_lines_in_a_json_file(tmp_path):
  (tmp_path / 'a.json').write_text('\n'.join(map(json.dumps, ROWS)))
  assert rows_of(read_file(tmp_path / 'a.json')) == ROWS


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('a.jsonl', '{"a": 1}\n{"a": \n', r'a.jsonl, line 2: not JSON'),
    ('a.json', '[{"a": 1},\n{"a": ]', r'a.json: row 1 \(.* 0, line 2\): not JSON'),
    ('a.json', '[{"a": 1}', r'row 0 \(counted from 0, line 1\): not JSON \(no comma'),
    ('a.json', '[{"a": 1, "a": 2}]', r"row 0 \(.*: an object has 'a' more than once"),
    ('a.jsonl', '{"a": {"b": 1, "b": 2}}', r"line 1: an object has 'b' more than once"),
    ('a.jsonl', '\n' + '[' * 100_000, 'a.jsonl, line 2: .* nested too deeply'),
    ('a.jsonl', f'{{"a": {"1" * 5000}}}', 'a.jsonl, line 1: a number has more than'),
    ('a.csv', 'q,a\nwho,me\nwhat,x, y\n', r'a.csv: row 1 \(.*line 3\) has 3 cells'),
    ('a.csv', 'q,a\nx,y,z\n', r'a.csv: row 0 \(.*line 2\) has 3 cells'),
    ('a.csv', 'q,a\nwho,me\nwhat,"x\nwhy,so\n', 'row that starts on line 3: a quote'),
    ('a.csv', 'q,a,a\nwho,me,you\n', "more than one column named 'a'"),
    ('a.csv', '\nq,a\nwho,me\n', 'first line of the file is blank'),
    ('a.tsv', 'q\ta\nx\ty\tz\n', r'a.tsv: row 0 \(.*line 2\) has 3 cells'),
  ],
)
def test_broken_files_name_the_place(tmp_path, name, text, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=message):
    rows_of(read_file(tmp_path / name))


PACKED = gzip.compress(b'{"a": 1}\n' * 1000, mtime=0)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('a.jsonl', '{"a": 1}'.encode('utf-16'), 'is UTF-16, .*iconv'),
    ('a.jsonl', b'{"a": 1}\n{"a": "\xe9"}', 'byte 16 .*in line 2.* is not UTF-8'),
    ('a.csv', b'a,b\n\xff,1\n', 'byte 4 .*in line 2.* is not UTF-8'),
    ('a.jsonl.gz', b'{"a": 1}', 'is not gzip, as its name says'),
    ('a.jsonl.gz', PACKED[:40], 'damaged or cut off'),
    ('a.jsonl.gz', PACKED[:10] + b'\xff' * 20, 'damaged or cut off'),
    ('a.parquet', b'PAR1xxxx', 'no parquet file that can be read'),
  ],
)
def test_what_is_no_text_or_damaged_is_named(tmp_path, name, content, message):
  path = tmp_path / name
  path.write_bytes(content)
  with pytest.raises(ValueError, match=f'^{re.escape(str(path))}.*{message}') as told:
    rows_of(read_file(path))
  assert '\n' not in str(told.value)


def test_nulls_that_parquet_fills_in_are_left_out(tmp_path):
  import pyarrow
  import pyarrow.parquet

  rows = [{'m': [{'role': 'a', 'calls': [{'id': 1}]}, {'role': 'b'}]}]
  table = pyarrow.Table.from_pylist(
    [{'m': [{'role': 'a', 'calls': [{'id': 1}]}, {'role': 'b', 'calls': None}]}]
  )
  pyarrow.parquet.write_table(table, tmp_path / 'a.parquet')
  assert rows_of(read_file(tmp_path / 'a.parquet')) == rows


def test_folders_lists_of_files_and_names_with_commas(tmp_path):
  for name in ('a.jsonl', 'b.csv', 'notes.md'):
    (tmp_path / 'rows').mkdir(exist_ok=True)
    write(tmp_path / 'rows', name)
  folder = tmp_path / 'rows'
  assert [r.source for r in read_all(str(folder))] == [
    str(folder / 'a.jsonl'), str(folder / 'b.csv')]  # fmt: skip
  both = read_all(f'{folder / "b.csv"}, {folder / "a.jsonl"}')
  assert [r.source for r in both] == [str(folder / 'b.csv'), str(folder / 'a.jsonl')]
  odd = write(tmp_path, 'x,y.jsonl')
  assert [r.source for r in read_all(str(odd))] == [str(odd)]
  empty = tmp_path / 'empty'
  empty.mkdir()
  with pytest.raises(ValueError, match='has no file of rows'):
    read_all(str(empty))
  with pytest.raises(ValueError, match="unknown kind of file '.md'"):
    read_file(folder / 'notes.md')


def splits(path='', **files):
  return splits_of(DataConfig(task='sft', path=str(path), **files))


def test_splits_of_a_folder_and_of_a_saved_data_set(tmp_path):
  import datasets

  for name in ('train.jsonl', 'validation.json', 'test.csv.gz'):
    write(tmp_path, name)
  found = splits(tmp_path)
  assert list(found) == ['train', 'validation', 'test']
  assert found['test'][0].files == (tmp_path / 'test.csv.gz',)
  (tmp_path / 'validation.json').rename(tmp_path / 'dev.json')
  assert splits(tmp_path)['validation'][0].files == (tmp_path / 'dev.json',)
  write(tmp_path, 'train.csv')
  with pytest.raises(ValueError, match="2 files for the split 'train': .*train.csv"):
    splits(tmp_path)
  rows = datasets.Dataset.from_list(ROWS)
  saved = datasets.DatasetDict({'train': rows, 'dev': rows})
  saved.save_to_disk(str(tmp_path / 'saved'))
  found = splits(tmp_path / 'saved')
  assert list(found) == ['train', 'validation']
  assert rows_of(found['train'][0]) == ROWS and found['train'][0].digest()
  assert [path.suffix for path in found['train'][0].files] == ['.arrow']


def test_a_data_set_of_the_hub_is_read_at_its_commit(tmp_path, monkeypatch):
  columns = {name: [row[name] for row in ROWS] for name in ('question', 'answer')}
  data = repositories.data_set(
    {
      name: {'train': (columns, None), 'test': (columns, None)}
      for name in ('main', 'b')
    }
  )
  with connected(tmp_path, monkeypatch) as hub:
    hub.put('dataset', 'openai/gsm8k', data)
    found = splits('openai/gsm8k', subset='main')
    commit = hub.repository('dataset', 'openai/gsm8k').branches['main']
    again = splits(f'openai/gsm8k@{commit}', subset='main')
    with pytest.raises(ValueError, match='no such revision|revision'):
      splits('openai/gsm8k', subset='main', revision='nowhere')
  rows = found['train'][0]
  assert list(found) == ['train', 'test'] and rows_of(rows) == ROWS
  assert rows.hub.commit == commit and rows.files == ()
  assert rows.place(1) == 'openai/gsm8k (main) [train], row 1 (counted from 0)'
  # Tokens are kept under a key of the commit, whatever its branch is called.
  assert again['train'][0].digest() == rows.digest() != found['test'][0].digest()


def test_what_is_not_there(tmp_path):
  with pytest.raises(ValueError, match='there is no such folder'):
    splits(tmp_path / 'nowhere')
  with pytest.raises(ValueError, match=r"task 'sft' needs data.train=FILE"):
    splits()
  with pytest.raises(ValueError, match=r'data.path=openai/gsm8k and data.subset=main'):
    splits('openai/gsm8k:main')
  with pytest.raises(ValueError, match=r'Without the hub, give files'):
    splits('owner/name')
