"""Tests ../../adapad_jax/training/terminal.py: what a log and a terminal show."""

import io
import re

import rich.console

from adapad_jax.training import terminal


def run(monkeypatch, is_terminal):
  screen = io.StringIO()
  console = rich.console.Console(
    file=screen, force_terminal=is_terminal, width=80, color_system=None
  )
  monkeypatch.setattr('rich.console.Console', lambda: console)
  with terminal.display(40, 0) as shown:
    for done in range(1, 41):
      shown.step(done, 0.5, 36, 72)
    shown.metric(40, 'accuracy', 0.9)
    shown.step(40, 0.25, 72, 72)
  return screen.getvalue()


def test_a_log_gets_few_plain_lines(monkeypatch, capsys):
  assert run(monkeypatch, False) == ''
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == 'compiling, then round 1 of 40'
  assert lines[1] == 'round 1/40  loss 0.5000  rank 36/72'
  assert 'round 40/40  evaluation: accuracy 0.9000' in lines
  assert len(lines) == 5 and not any('\x1b' in line for line in lines)


def test_a_terminal_gets_one_bar_that_fits(monkeypatch, capsys):
  screen = run(monkeypatch, True)
  lines = re.sub(r'\x1b\[[?\d]*[a-zA-Z]', '', screen.replace('\r', '\n')).splitlines()
  assert any(re.match(r'0/40 .* compiling', line) for line in lines)
  (last,) = {line for line in lines if line.startswith('40/40')}
  assert 'rank 72/72  eval accuracy 0.9000' in last
  assert all(len(line) <= 80 for line in lines)
  assert capsys.readouterr().out == ''


def test_the_time_left_is_that_of_rounds_without_the_compilation(monkeypatch, capsys):
  shown = terminal.Display(50, 9, None)
  # Whatever the first round took, since that was compiled.
  monkeypatch.setattr(terminal.time, 'monotonic', lambda: 1612.0)
  shown.step(10, 0.5, 36, 72)
  monkeypatch.setattr(terminal.time, 'monotonic', lambda: 1632.0)
  shown.step(20, 0.5, 36, 72)
  assert capsys.readouterr().out.splitlines() == [
    'compiling, then round 10 of 50',
    'round 10/50  loss 0.5000  rank 36/72',
    'round 20/50  loss 0.5000  rank 36/72  60 s left',
  ]


def test_a_run_with_no_round_left_compiles_nothing(capsys):
  terminal.Display(40, 40, None)
  assert not capsys.readouterr().out


def test_the_rank_map_of_few_layers_is_a_table():
  ranks = {f'layer.{i}.{kind}': i for i in range(3) for kind in ('query', 'out')}
  del ranks['layer.1.out']
  assert terminal.rank_map(ranks).splitlines() == [
    '  layer  0  1  2',
    '  query  0  1  2',
    '  out    0  .  2',
  ]


def test_the_rank_map_of_many_layers_fits_a_terminal():
  kinds = ('self_attn.q_proj', 'mlp.down_proj')
  ranks = {f'layers.{i}.{kind}': i % 5 for i in range(28) for kind in kinds}
  assert terminal.rank_map(ranks).splitlines() == [
    '  layer                       1         2',
    '                    0123456789012345678901234567',
    '  self_attn.q_proj  0123401234012340123401234012',
    '  mlp.down_proj     0123401234012340123401234012',
  ]
  wide = terminal.rank_map(ranks | {'layers.0.mlp.down_proj': 10}).splitlines()
  assert wide[2].split() == ['mlp.down_proj', '10', *(str(i % 5) for i in range(1, 28))]


def test_answers_are_shown_on_a_line_each_and_long_ones_without_their_middle(capsys):
  rows = [
    {'prompt': 'a\n b', 'reference': 'x' * 400, 'answer': '', 'right': False},
    {'prompt': 'c', 'reference': 'd', 'answer': 'd'},
  ]
  first, *lines, last = terminal.shown_samples(rows, 7).splitlines()
  assert first == 'sample 1 after round 7, wrong' and lines[0] == '  prompt     a b'
  assert lines[1] == f'  reference  {"x" * 150} ... {"x" * 150}'
  assert lines[3] == 'sample 2 after round 7' and last == '  answer     d'
