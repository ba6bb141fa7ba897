"""The loop of `--mode=chat`: what is typed, what is said, and how it ends."""

import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from adapad_jax.commands import Request, chat, registry
from adapad_jax.tasks.sft.chat import Chat
from adapad_jax.training.completions import Decoding, complete
from adapad_jax.training.saved import restore
from adapad_jax.training.talk import Talker
from tests.commands.exchange import DEFAULTS

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def talk(chat_run, monkeypatch, capsys):
  """Types lines; gives what was said to each."""

  def typed(*lines, **options):
    left = iter(lines)

    def read(prompt):
      print(f'[{prompt}]')
      line = next(left, EOFError)
      if isinstance(line, type):
        raise line
      return line

    monkeypatch.setattr('builtins.input', read)
    registry.run('chat', Request(None, chat_run, DEFAULTS | options))
    start, *said = capsys.readouterr().out.split('[> ]\n')
    assert 'Ctrl-C stops an answer, Ctrl-D leaves' in start
    return [text.strip('\n') for text in said]

  return typed


def answer(workdir, *messages, **cut):
  """What a batch says."""
  roles = {'role': 'user'}, {'role': 'assistant', 'weight': 0}
  turns = [roles[i % 2] | {'content': text} for i, text in enumerate(messages)]
  decoding = Decoding(max_new_tokens=8)
  run = restore(workdir)
  return complete(run, [('row', {'messages': turns})], decoding, **cut)['prediction'][0]


def test_history_ranks_and_a_new_start(talk, chat_run):
  first, second, rank, third, reset, fourth, end = talk(
    'Hi', 'Yes?', '/rank 1', 'Yes?', '/reset', 'Yes?'
  )
  assert first == answer(chat_run, 'Hi')
  assert second == answer(chat_run, 'Hi', first, 'Yes?')
  assert rank == 'now with 1 of at most 2 components a module'
  assert third == answer(chat_run, 'Hi', first, 'Yes?', second, 'Yes?', max_rank=1)
  assert reset == 'forgotten' and fourth == answer(chat_run, 'Yes?', max_rank=1)
  assert end == ''


def test_more_than_all_components_are_all(talk, chat_run):
  rank, said, end = talk('/rank 3000000000', 'Hi', max_rank=1)
  assert rank == 'now with 2 of at most 2 components a module'
  assert said == answer(chat_run, 'Hi', max_rank=3_000_000_000) and end == ''
  assert said == answer(chat_run, 'Hi')


def test_a_rank_takes_the_place_of_a_budget(talk, chat_run):
  first, rank, second, third, end = talk('Hi', '/rank 0', '/reset', 'Hi', budget=1)
  assert first == answer(chat_run, 'Hi', budget=1) != answer(chat_run, 'Hi')
  assert rank == 'now with all of at most 2 components a module'
  assert second == 'forgotten' and third == answer(chat_run, 'Hi') and end == ''


def test_the_text_that_ends_turns_is_not_said(talk, chat_run, monkeypatch):
  said = answer(chat_run, 'Hi')
  monkeypatch.setattr(Chat, 'stop_texts', (said[1:],))
  first, end = talk('Hi')
  assert first == said[:1] and end == ''


def test_what_is_no_command_is_told_and_nothing_is_asked_by_blank_lines(talk):
  help_, near, wrong, blank, dropped, end = talk(
    '/help', '/rnak 1', '/rank two', '  ', KeyboardInterrupt
  )
  assert '/rank N   use the first N' in help_
  assert "unknown /rnak; did you mean 'rank'?" in near
  assert wrong == "/rank N takes a whole number, 0 for all, got 'two'"
  assert (blank, dropped, end) == ('', 'Ctrl-D leaves', '')


def test_a_line_that_is_not_utf8_costs_only_itself(
  chat_run, monkeypatch, capsys, tmp_path
):
  typed = tmp_path / 'typed'
  typed.write_bytes(b'Hi\n\xff\xfe\n/\xff\nYes?\n')
  with typed.open(encoding='utf-8') as stdin:
    monkeypatch.setattr('sys.stdin', stdin)
    registry.run('chat', Request(None, chat_run, DEFAULTS))
  _, first, second, third, fourth, end = capsys.readouterr().out.split('> ')
  said = first.strip('\n')
  assert said == answer(chat_run, 'Hi')
  assert second == "'\\udcff\\udcfe' is not UTF-8 and was left out\n"
  assert third == "'/\\udcff' is not UTF-8 and was left out\n"
  assert fourth.strip('\n') == answer(chat_run, 'Hi', said, 'Yes?') and end == '\n'


def test_a_system_message_that_is_not_utf8(talk):
  with pytest.raises(ValueError, match=r"--system='\\udcff' is not UTF-8"):
    talk('Hi', system='\udcff')


def test_a_system_message_stays_in_front(talk, chat_run):
  turns = [{'role': 'system', 'content': 'No'}, {'role': 'user', 'content': 'Hi'}]
  decoding = Decoding(max_new_tokens=8)
  cells = complete(restore(chat_run), [('row', {'messages': turns})], decoding)
  for said in talk('Hi', '/reset', 'Hi', system='No')[::2][:2]:
    assert said == cells['prediction'][0].strip('\n')


def test_a_talk_that_is_too_long_says_how_to_go_on(talk):
  said = talk('Hi ' * 200, 'Hi')
  assert 'there is room for 128; /reset starts anew' in said[0] and said[1] == 'Hello'


def test_an_interrupt_ends_an_answer_and_keeps_what_was_said(
  talk, chat_run, monkeypatch
):
  """Handlers stand as they stood when the talk is over."""
  tokens = restore(chat_run).plan.task.chat.tokenizer
  prompts = []

  def endless(self, ids):
    prompts.append(tokens.decode(ids))
    for count in range(1000):
      if count == 3:
        os.kill(os.getpid(), signal.SIGINT)
      yield tokens.convert_tokens_to_ids('Yes')

  monkeypatch.setattr(Talker, 'answer', endless)
  before = signal.getsignal(signal.SIGINT)
  first, _, end = talk('Hi', 'No?')
  assert first == 'YesYesYes' and end == ''
  assert 'assistant\nYesYesYes<|im_end|>' in prompts[1]
  assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_the_program_in_a_terminal(chat_run):
  """Answers, an interrupt at the prompt, and Ctrl-D, with nothing replaced."""
  ours, theirs = pty.openpty()
  process = subprocess.Popen(
    [sys.executable, '-m', 'adapad_jax.main', '--mode=chat', f'--workdir={chat_run}'],
    stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, start_new_session=True,
    env=os.environ | {'JAX_NUM_CPU_DEVICES': '1', 'TERM': 'dumb'},
  )  # fmt: skip
  os.close(theirs)
  seen = ''

  def wait_for(pattern, and_else=lambda: None):
    nonlocal seen
    end = time.monotonic() + 200
    while not re.search(pattern, seen):
      assert time.monotonic() < end and process.poll() is None, seen
      if select.select([ours], [], [], 2)[0]:
        seen += os.read(ours, 4096).decode()
      else:
        and_else()
    said, seen = seen, ''
    return said

  try:
    wait_for('> $')
    os.write(ours, b'Hi\n')
    assert 'Hello' in wait_for('Hello\r\n> $')
    # Again if need be: Python is deaf between writing the prompt and reading.
    interrupt = lambda: process.send_signal(signal.SIGINT)
    interrupt()
    wait_for('Ctrl-D leaves\r\n> $', and_else=interrupt)
    os.write(ours, b'\x04')
    assert process.wait(timeout=60) == 0
  finally:
    process.kill()
    process.wait()
    os.close(ours)


def test_only_chats_are_talked_to_before_anything_is_read(tmp_path):
  with pytest.raises(ValueError, match='--mode=chat|no run|there is no|config.json'):
    chat.run(Request(None, tmp_path, DEFAULTS))
