"""Figures as JSON holds them, kept in a file."""

import json

import numpy as np
import pytest

from experiments.results import Results, matching, over_seeds, row, stamped


def test_figures_are_kept_as_json(tmp_path):
  results = Results(tmp_path / 'new' / 'x.jsonl')
  assert results.rows() == []
  rows = [
    row('rate', np.float32(0.5), 'GFLOP/s', ranks=np.arange(2), sizes=(1, 2)),
    row('time', np.float64('nan'), 's', low=-np.inf),
  ]
  results.keep(map(stamped, rows))
  lines = results.path.read_text().splitlines()
  first, second = map(json.loads, lines)
  assert [first, second] == results.rows()
  assert first.pop('when').endswith('+00:00')
  details = {'ranks': [0, 1], 'sizes': [1, 2]}
  assert first == {'figure': 'rate', 'value': 0.5, 'unit': 'GFLOP/s'} | details
  assert second['value'] is None and second['low'] is None


def test_what_json_cannot_hold_is_refused():
  with pytest.raises(TypeError, match='object'):
    stamped(row('rate', object(), ''))


def test_over_seeds_has_the_median_and_the_middle_of_them():
  found = over_seeds('rate', np.array([*range(11), np.nan]), 's', gap=0.1)
  assert (found['value'], found['low'], found['high']) == (5, 1, 9)
  assert (found['seeds'], found['gap'], found['unit']) == (12, 0.1, 's')


def test_rows_match_by_all_of_a_key():
  rows = [{'a': 1, 'sizes': [1, 2]}, {'a': 1, 'b': 2}, {'a': 2}]
  assert matching(rows, {'a': 1}) == rows[:2]
  assert matching(rows, {'sizes': (1, 2)}) == rows[:1]
  assert matching(rows, {'a': 1, 'sizes': None}) == [rows[1]]
