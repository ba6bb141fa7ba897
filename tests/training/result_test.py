"""Tests ../../adapad_jax/training/result.py: the outcome as a terminal shows it."""

import math

from adapad_jax.training.result import summarise

STATES = {
  'best': {'step': 4, 'metrics': {'accuracy': 0.75, 'accuracy_mm': 0.5}},
  'last': {'step': 6, 'metrics': {'accuracy': 0.625, 'accuracy_mm': None}},
  'baseline': {'name': 'chance', 'metrics': {'accuracy': 0.25, 'spread': math.nan}},
}
RESULT = STATES | {
  'task': 'mnli', 'method': 'adapad', 'metric': 'accuracy', 'rounds': 6,
  'seconds': 1.0, 'seconds_to_first_step': 0.5, 'traces': 1, 'rank_total': 1,
  'budget': 1, 'adapter_parameters': 8, 'head_parameters': 2, 'ranks': {'layer.0.q': 1},
  'prefixes': [None, 0.75], 'checkpoints': 'run/checkpoints',
}  # fmt: skip


def test_metrics_that_a_state_lacks_are_dashes():
  """Missing, null as JSON spells NaN, or NaN: no state need have every metric."""
  lines = summarise(RESULT, 'run').splitlines()
  cells = [line.split() for line in lines]
  assert ['accuracy', 'accuracy_mm', 'spread'] in cells
  assert ['best', '(round', '4)', '0.7500', '0.5000', '-'] in cells
  assert ['last', '(round', '6)', '0.6250', '-', '-'] in cells
  assert ['baseline:', 'chance', '0.2500', '-', '-'] in cells
  assert '  0.7500' in lines


def test_the_curve_is_shown_from_its_first_point_with_the_rows_it_is_on():
  shown = lambda **fields: summarise(RESULT | fields, 'run').splitlines()
  first = 'accuracy of the adapter cut to its first '
  assert first + '1 components:' in shown()
  lines = shown(prefixes=[0.5, 0.625, 0.75])
  assert lines[lines.index(first + '0, 1, ... components:') + 1] == (
    '  0.5000  0.6250  0.7500'
  )
  curve = {'rows': 1024, 'rows_in_all': 9815}
  lines = shown(prefixes=[None, 0.625, None], curve=curve)
  title = first + '1, 2 components (on 1,024 of the 9,815 rows that the table is of):'
  assert lines[lines.index(title) + 1] == '  0.6250  -'


def test_the_best_state_has_a_size_of_its_own():
  shown = lambda **fields: summarise(RESULT | fields, 'run')
  ended = 'rank of every module, 1 of 1 components, 8 parameters (+ 2 in the head):'
  assert ended in shown() and ended in shown(best_rank_total=1)
  more = shown(best_rank_total=3)
  assert 'rank of every module at the end, 1 of 1 components; the best' in more
  assert '; the best state has 3, 8 parameters (+ 2 in the head):' in more


def test_commands_name_the_folder_as_a_shell_needs_it():
  assert '  python -m adapad_jax.main --mode=eval --workdir=runs/one' in summarise(
    RESULT, 'runs/one'
  )
  lines = summarise(RESULT | {'task': 'sft'}, "my runs/it's").splitlines()
  quoted = """--workdir='my runs/it'"'"'s'"""
  assert [line.split(' ', 5)[-1] for line in lines if '--mode' in line] == [
    f'--mode={mode} {quoted}' for mode in ('eval', 'chat')
  ]
