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
