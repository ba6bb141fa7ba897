"""Tests ../../adapad_jax/workdir/lines.py."""

from adapad_jax.workdir import JsonLines, read_lines


def test_a_resumed_log_drops_later_and_broken_lines(tmp_path):
  path = tmp_path / 'm.jsonl'
  log = JsonLines(path, 0)
  for step in (1, 2, 3):
    log.write(step, {'x': float('nan') if step == 1 else step})
  with path.open('a') as file:
    file.write('{"step": 4, "x"')
  assert [line['step'] for line in read_lines(path)] == [1, 2, 3]
  JsonLines(path, 2).write(3, {'x': 9})
  assert read_lines(path) == [
    {'step': 1, 'x': None},
    {'step': 2, 'x': 2},
    {'step': 3, 'x': 9},
  ]
  assert JsonLines(path, 0) and read_lines(path) == []
