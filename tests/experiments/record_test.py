"""Figures on the screen and in the file."""

import json

import numpy as np
import pytest

from experiments.record import record


def test_a_figure_is_printed_and_appended(tmp_path, capsys):
  record(tmp_path / 'new', 'rate', np.float32(0.5), 'GFLOP/s', ranks=np.arange(2))
  record(tmp_path / 'new', 'time', np.float64('nan'), 's', low=-np.inf)
  lines = (tmp_path / 'new' / 'results.jsonl').read_text().splitlines()
  assert capsys.readouterr().out.splitlines() == lines
  first, second = map(json.loads, lines)
  when = first.pop('when')
  assert when.endswith('+00:00')
  assert first == {'figure': 'rate', 'value': 0.5, 'unit': 'GFLOP/s', 'ranks': [0, 1]}
  assert second['figure'] == 'time'
  assert second['value'] is None and second['low'] is None


def test_what_json_cannot_hold_is_refused_and_leaves_no_line(tmp_path):
  with pytest.raises(TypeError, match='object'):
    record(tmp_path, 'rate', object(), '')
  assert not (tmp_path / 'results.jsonl').exists()
