"""Many command lines in one start of Python: each runs in a fork of its own.

    python -m tests.forked < cases.json

reads a list of lists of arguments and prints, as JSON, what each of them returned and
wrote. The parent imports everything and asks for no device, so a fork is a clean start.
"""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
_SECONDS = 300  # Of one case; a signal kills it then, whatever it waits for.


def run_all(cases: Sequence[Sequence[str]], **environment: str) -> list[dict[str, Any]]:
  """[{'code', 'out', 'err'}] of command lines of `adapad_jax.main`."""
  done = subprocess.run(
    [sys.executable, '-m', 'tests.forked'],
    input=json.dumps([list(map(str, case)) for case in cases]),
    cwd=ROOT,
    env=os.environ | environment,
    capture_output=True,
    text=True,
    check=True,
    timeout=900,
  )
  return json.loads(done.stdout)


def _in_fork(arguments: list[str]) -> dict[str, Any]:
  with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
    child = os.fork()
    if child == 0:
      os.dup2(out.fileno(), 1)
      os.dup2(err.fileno(), 2)
      _child(arguments)
    _, status = os.waitpid(child, 0)
    texts = []
    for file in (out, err):
      file.seek(0)
      texts.append(file.read())
  return {'code': os.waitstatus_to_exitcode(status), 'out': texts[0], 'err': texts[1]}


def _child(arguments: list[str]) -> None:
  """Runs main as `python -m` does.

  In front of the arguments, limit=N limits the size of files, and raise=NAME has the
  mode raise that error.
  """
  import traceback

  from adapad_jax import main

  if arguments[0].startswith('limit='):
    size = int(arguments.pop(0).removeprefix('limit='))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
  if arguments[0].startswith('raise='):
    _raise_instead(_ERRORS[arguments.pop(0).removeprefix('raise=')])
  signal.alarm(_SECONDS)
  sys.argv = ['main.py', *arguments]
  code = 0
  try:
    main.start()
  except SystemExit as stop:
    code = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
    if isinstance(stop.code, str):
      print(stop.code, file=sys.stderr)
  except BaseException:
    traceback.print_exc()
    code = 1
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _raise_instead(error: BaseException) -> None:
  from adapad_jax.commands import registry

  def run(*arguments: Any) -> None:
    raise error

  registry.run = run


_ERRORS = {
  'interrupt': KeyboardInterrupt(),
  'bug': RuntimeError('a bug'),
  'memory': MemoryError('Unable to allocate 3 TiB'),
  'pipe': BrokenPipeError(32, 'Broken pipe'),
}


if __name__ == '__main__':
  import transformers.models.auto.tokenization_auto  # noqa: F401

  print(json.dumps([_in_fork(case) for case in json.load(sys.stdin)]))
