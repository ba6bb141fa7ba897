"""Prediction files, whole or not at all."""

import json

import pytest

from adapad_jax.tasks.predictions import write_atomically, write_table


def test_tsv_is_what_run_glue_writes(tmp_path):
  path = tmp_path / 'new' / 'p.tsv'
  write_table(path, {'prediction': ['entailment', 'neutral'], 'probability': [1, 1]})
  assert path.read_text() == 'index\tprediction\n0\tentailment\n1\tneutral\n'
  write_table(path, {'prediction': [1.23456, 5.0]})
  assert path.read_text() == 'index\tprediction\n0\t1.235\n1\t5.000\n'


def test_csv_and_jsonl_hold_all_columns(tmp_path):
  columns = {'prediction': ['a,b', 'é'], 'probability': [0.5, 0.75]}
  write_table(tmp_path / 'p.csv', columns)
  assert (tmp_path / 'p.csv').read_text(encoding='utf-8') == (
    'index,prediction,probability\n0,"a,b",0.5\n1,é,0.75\n'
  )
  write_table(tmp_path / 'p.jsonl', columns)
  lines = (tmp_path / 'p.jsonl').read_text(encoding='utf-8').splitlines()
  assert json.loads(lines[1]) == {'index': 1, 'prediction': 'é', 'probability': 0.75}


def test_unknown_format_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"as '.xml'; choose from \['.csv'"):
    write_table(tmp_path / 'p.xml', {'prediction': []})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / 'p.txt'
  path.write_text('old')

  def fail(file):
    file.write('half')
    raise RuntimeError('disk')

  with pytest.raises(RuntimeError, match='disk'):
    write_atomically(path, fail)
  assert [p.name for p in tmp_path.iterdir()] == ['p.txt']
  assert path.read_text() == 'old'


def test_every_row_of_a_tsv_is_one_line(tmp_path):
  write_table(tmp_path / 'p.tsv', {'prediction': ['a\tb', 'c\r\n\nd', 'e\u2028']})
  lines = (tmp_path / 'p.tsv').read_text(encoding='utf-8').split('\n')
  assert lines == ['index\tprediction', '0\ta b', '1\tc d', '2\te\u2028', '']


def test_no_character_of_a_jsonl_looks_like_the_end_of_a_line(tmp_path):
  said = ['a\u2028b\u2029c\x85d\ne', 'f']
  write_table(tmp_path / 'p.JSONL', {'prediction': said})
  lines = (tmp_path / 'p.JSONL').read_text(encoding='utf-8').splitlines()
  assert [json.loads(line)['prediction'] for line in lines] == said


@pytest.mark.parametrize('suffix', ['tsv', 'csv', 'jsonl'])
def test_the_index_is_the_number_of_the_row_in_its_source(tmp_path, suffix):
  path = tmp_path / f'p.{suffix}'
  write_table(path, {'prediction': ['a', 'b']}, [3, 17])
  lines = path.read_text().splitlines()[-2:]
  starts = {'jsonl': '{"index": %d, ', 'csv': '%d,', 'tsv': '%d\t'}
  for line, number in zip(lines, (3, 17), strict=True):
    assert line.startswith(starts[suffix] % number)


def test_a_file_of_the_user_is_never_taken_for_a_partial_one(tmp_path):
  mine = tmp_path / 'p.tsv.partial'
  mine.write_text('mine')
  write_table(tmp_path / 'p.tsv', {'prediction': ['a']})
  assert mine.read_text() == 'mine'
  assert sorted(p.name for p in tmp_path.iterdir()) == ['p.tsv', 'p.tsv.partial']
