"""Tests ../../../experiments/speed/reading.py: files that it makes, and its rows."""

import csv
import json

import pytest

from adapad_jax.tasks import DataConfig
from experiments.results import row, stamped
from experiments.speed import reading


def test_pairs_are_as_many_as_asked_for_and_all_different(tmp_path, shared):
  config = reading.write_pairs(tmp_path, shared / 'data/glue', 20_000)
  with open(config['train'], newline='') as file:
    head, *rows = csv.reader(file)
  assert head == ['premise', 'hypothesis', 'label'] and len(rows) == 20_000
  assert len({tuple(one) for one in rows}) == 20_000
  assert DataConfig(**config).task == 'classification'


def test_questions_are_as_many_as_asked_for_about_passages_that_differ(
  tmp_path, shared
):
  config = reading.write_questions(tmp_path, shared / 'data/squad', 13_000)
  articles = json.loads((tmp_path / 'train-v1.1.json').read_text())['data']
  passages = [passage for article in articles for passage in article['paragraphs']]
  ids = [question['id'] for passage in passages for question in passage['qas']]
  assert len(ids) == len(set(ids)) == 13_000
  # The training file has a passage twice.
  assert len({passage['context'] for passage in passages}) >= len(passages) - 2
  assert len({article['title'] for article in articles}) == len(articles)
  assert DataConfig(**config).task == 'squad'


@pytest.mark.slow
def test_a_second_start_tokenises_nothing(tmp_path, shared, monkeypatch):
  config = reading.write_pairs(tmp_path, shared / 'data/glue', 10_600)
  _, first = reading.first_batch(config)
  monkeypatch.setattr(
    'adapad_jax.tasks.tokenise._write', lambda *_: pytest.fail('tokenised again')
  )
  _, second = reading.first_batch(config)
  assert second['tokens'] == first['tokens'] > 0
  assert second['train_rows'] == first['train_rows'] == 10_335
  assert first['batch'] == [1, 32, 128]


def test_the_table_has_a_line_a_start(tmp_path):
  run = reading.EXPERIMENT.run(tmp_path, glue='g', squad='s', pairs=7, questions=5)
  assert [case.rows for case in reading.cases(run)] == [7, 5]
  about = {'data': 'pairs', 'rows': 7000, 'peak_gib': 1.25, 'processor': 'P'}
  rows = [row('f', 9.96, 's', **about, start=start) for start in ('first', 'second')]
  run.results.keep(map(stamped, rows))
  assert reading.table(run).splitlines()[2:] == [
    '| pairs | 7,000 | first | 10.0 | 1.25 | P |',
    '| pairs | 7,000 | second | 10.0 | 1.25 | P |',
  ]
