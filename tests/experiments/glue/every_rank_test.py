"""Tests ../../../experiments/glue/every_rank.py: by hand, on a few rows."""

import pytest

from experiments.glue import every_rank, summary

TASKS = 'a', 'b'


def row(method, budget, task, seed, prefixes, rank_M):
  return {
    'method': method,
    'budget': budget,
    'task': task,
    'seed': seed,
    'value': prefixes[-1],
    'prefixes': prefixes,
    'spectral_prefixes': [x - 0.1 for x in prefixes],
    'rank_M': rank_M,
  }


ROWS = [
  row('adapad', 2, 'a', 0, [0.0, 0.5, 0.7], [1, 2]),
  row('adapad', 2, 'b', 0, [0.0, 0.3, 0.5], [2, 2]),
  row('adapad', 2, 'a', 1, [0.0, 0.1, 0.2], [1, 2]),  # seed 1 lacks task b
  row('lora', 1, 'a', 0, [0.0, 0.6], [1, 1]),
  row('lora', 1, 'b', 0, [0.0, 0.4], [1, 1]),
  row('lora', 2, 'a', 0, [0.0, 0.5, 0.8], [2, 2]),
  row('lora', 2, 'b', 0, [0.0, 0.3, 0.6], [2, 2]),
]


def test_curves_are_averages_over_tasks_by_seed():
  found = every_rank.curves(ROWS, TASKS, 2)
  adapad = found['AdaPaD, prefixes of one run']
  assert [size for size, _ in adapad] == [1.0, 1.75]
  assert [values for _, values in adapad] == [[pytest.approx(40)], [pytest.approx(60)]]
  lora = found['LoRA, trained at each rank']
  assert lora == [(1.0, [pytest.approx(50)]), (2.0, [pytest.approx(70)])]
  cut = found['LoRA of rank 2, cut by singular values']
  assert [values for _, values in cut] == [[pytest.approx(30)], [pytest.approx(60)]]
  assert '1.00: 40.0, 1.75: 60.0' in every_rank.table(found)


def test_the_figure_is_drawn(tmp_path):
  every_rank.draw(every_rank.curves(ROWS, TASKS, 2), tmp_path / 'x.png')
  assert (tmp_path / 'x.png').stat().st_size > 1000


def test_held_out_means_say_their_seeds():
  lines = summary.held_out_table(ROWS, ['adapad', 'full'], TASKS).splitlines()
  assert lines[2] == '| adapad | 45.00 (2) | 50.00 (1) | 47.50 |'
  assert lines[3] == '| full |  |  |  |'
