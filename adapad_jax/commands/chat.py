"""`--mode=chat`: talks with a run of task 'sft' in the terminal."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from adapad_jax.commands import Request
from adapad_jax.interrupt import Attention, on_interrupt
from adapad_jax.settings import did_you_mean
from adapad_jax.tasks.cells import is_unicode
from adapad_jax.tasks.sft.conversation import BadRow, Conversation
from adapad_jax.tasks.sft.load import TASKS
from adapad_jax.training.claim import read_workdir
from adapad_jax.training.completions import Decoding
from adapad_jax.training.cutting import check_cut
from adapad_jax.training.saved import SavedRun, restore
from adapad_jax.training.talk import Full, Stream, Talker

_HELP = """\
/rank N   use the first N components of every module; 0 uses all
/reset    forget what was said
/help     this
Ctrl-C stops an answer, Ctrl-D leaves."""


def run(request: Request) -> None:
  """Reads lines from the terminal and answers each, until it ends.

  Raises:
    ValueError: for a run of another task, an update that cannot be cut as asked, or a
      --system that is not UTF-8.
  """
  options = request.options
  check_cut(options['max_rank'], options['budget'])
  if not is_unicode(options['system']):
    raise ValueError(f'--system={options["system"]!a} is not UTF-8')
  data = read_workdir(request.run_folder()).data
  if data.task not in TASKS:
    raise ValueError(
      f'{request.run_folder()} holds a run of task {data.task!r}; --mode=chat talks'
      " with runs of task 'sft'"
    )
  decoding = Decoding.of(data.generation, options)
  saved = restore(request.run_folder(), options['checkpoint'])
  talker = Talker(saved, decoding, options['max_rank'], options['budget'])
  Talk(saved, talker, decoding, options['system']).run()


class Talk:
  """The loop: what is typed, what is said, and what was said before."""

  def __init__(
    self, saved: SavedRun, talker: Talker, decoding: Decoding, system: str
  ) -> None:
    self._chat, self._talker, self._decoding = saved.plan.task.chat, talker, decoding
    self._start = [{'role': 'system', 'content': system}] if system else []
    self._said: list[dict[str, Any]] = []
    self._most = saved.plan.method.capacity
    self._commands = {'rank': self._rank, 'reset': self._reset, 'help': self._help}

  def run(self) -> None:
    """Talks until the input ends."""
    print(_HELP, flush=True)
    with on_interrupt() as attention:
      for line in _lines():
        with attention.doing():
          if not is_unicode(line):
            print(f'{line!a} is not UTF-8 and was left out', flush=True)
          elif line.startswith('/'):
            self._obey(line)
          elif line.strip():
            self._answer(line, attention)

  def _obey(self, line: str) -> None:
    name, _, value = line[1:].strip().partition(' ')
    if name not in self._commands:
      print(f'unknown /{name}{did_you_mean(name, self._commands)}', flush=True)
      return
    try:
      self._commands[name](value.strip())
    except ValueError as error:
      print(error, flush=True)

  def _rank(self, value: str) -> None:
    if not value.isdecimal():
      raise ValueError(f'/rank N takes a whole number, 0 for all, got {value!r}')
    rank = int(value)
    self._talker.use(rank)
    print(
      f'now with {min(rank, self._most) if rank else "all"} of at most {self._most}'
      ' components a module',
      flush=True,
    )

  def _reset(self, value: str) -> None:
    self._said = []
    print('forgotten', flush=True)

  def _help(self, value: str) -> None:
    print(_HELP, flush=True)

  def _answer(self, line: str, attention: Attention) -> None:
    """Says an answer as it comes; what has been said of it stays part of the talk."""
    said = [*self._said, {'role': 'user', 'content': line}]
    try:
      prompt = self._chat.ask(Conversation(messages=(*self._start, *said)))
      text = self._stream(prompt.ids, attention)
    except (Full, BadRow) as error:
      print(f'{error}; /reset starts anew', flush=True)
      return
    self._said = [*said, {'role': 'assistant', 'content': text}]

  def _stream(self, ids: tuple[int, ...], attention: Attention) -> str:
    stream = Stream(self._chat.decode, self._chat.ends(self._decoding.stop))
    stops = set(self._chat.stop_ids)
    for token in self._talker.answer(ids):
      if token in stops or attention.asked:
        break
      print(stream.push(token), end='', flush=True)
      if stream.ended:
        break
    print(stream.flush(), flush=True)
    return stream.text


def _lines() -> Iterator[str]:
  """What is typed, line by line; Ctrl-C drops a line, Ctrl-D ends them.

  Bytes that are not UTF-8 become halves of surrogate pairs, so that they cost their own
  line and not those that were read with it.
  """
  if hasattr(sys.stdin, 'reconfigure'):
    sys.stdin.reconfigure(errors='surrogateescape')
  with contextlib.suppress(ImportError):
    import readline  # noqa: F401 - lets lines be edited.
  while True:
    try:
      yield input('> ')
    except KeyboardInterrupt:
      print('\nCtrl-D leaves', flush=True)
    except EOFError:
      print(flush=True)
      return
