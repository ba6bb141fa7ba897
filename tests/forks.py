"""Processes that share their imports: forks of one that has what the program needs.

A process of its own takes seconds to import what a run needs. `Forks` starts one,

python -m tests.forks

which forks a child for every line that it reads, before any device is there.
"""

import gc
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from adapad_jax import left_out

ROOT = pathlib.Path(__file__).parents[1]
IMPORTS = (
  'adapad_jax.main',
  'adapad_jax.training',
  'orbax.checkpoint',
  'tensorboardX',
  'tests.training.train_test',  # Whose runs are started here.
  'transformers.models.auto.tokenization_auto',
)


class Child:
  """What subprocess.Popen tells of a process, for one of the forks."""

  def __init__(self, forks, pid, said):
    self._forks, self._said = forks, said
    self.pid, self.returncode = pid, None

  def poll(self):
    if self.returncode is None:
      self.returncode = self._forks.ask(poll=self.pid)
    return self.returncode

  def send_signal(self, number):
    # Nobody else can have its number: `poll` alone lets the parent forget it.
    if self.poll() is None:
      os.kill(self.pid, number)

  def kill(self):
    self.send_signal(signal.SIGKILL)

  def communicate(self, timeout):
    """All that it has written to stdout and to stderr, when it has ended."""
    end = time.monotonic() + timeout
    while self.poll() is None:
      if time.monotonic() > end:
        raise subprocess.TimeoutExpired(f'fork {self.pid}', timeout)
      time.sleep(0.02)
    return tuple(path.read_text() for path in self._said)


class Forks:
  """The process that forks; what it has started ends with it."""

  def __init__(self):
    self._folder = tempfile.TemporaryDirectory()
    self._count = 0
    self._process = subprocess.Popen(
      [sys.executable, '-W', 'ignore', '-m', 'tests.forks'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      cwd=ROOT,
      env=os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
    )

  def ask(self, **job):
    """Sends a job to the process that forks; gives its answer."""
    self._process.stdin.write(json.dumps(job) + '\n')
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())

  def start(self, function, *args, devices):
    """Calls 'module:function' in a fork that has some devices."""
    self._count += 1
    said = [
      pathlib.Path(self._folder.name, f'{self._count}.{name}')
      for name in ('out', 'err')
    ]
    files = [str(path) for path in said]
    pid = self.ask(function=function, args=args, devices=devices, files=files)
    return Child(self, pid, said)

  def close(self):
    self._process.stdin.close()
    self._process.wait()
    self._process.stdout.close()
    self._folder.cleanup()


def program(*flags):
  """Runs the program as the shell would."""
  from adapad_jax import main

  sys.argv = ['main', *flags]  # Where absl and ml_collections look for flags.
  main.start()


def call(function, args, devices, files):
  """What a child does; it ends as other processes do, by leaving the main module."""
  import jax

  for to, path in enumerate([os.devnull, *files]):
    mode = os.O_RDONLY if to == 0 else os.O_WRONLY | os.O_CREAT
    os.dup2(os.open(path, mode), to)
  jax.config.update('jax_num_cpu_devices', devices)
  module, name = function.split(':')
  getattr(importlib.import_module(module), name)(*args)
  sys.exit()


def main():
  # The pipes of this process, which children leave alone.
  asked, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), 'w')
  left_out.leave_out('torch', of=['transformers', 'tensorboardX'])  # As in the program.
  for name in IMPORTS:
    importlib.import_module(name)
  # Children look through their own objects alone for garbage, as seldom as the program.
  gc.freeze()
  gc.set_threshold(50_000)
  running = set()
  while line := asked.readline():
    job = json.loads(line)
    if 'poll' in job:
      pid, status = os.waitpid(job['poll'], os.WNOHANG)
      running.discard(pid)
      answer = os.waitstatus_to_exitcode(status) if pid else None
    else:
      answer = os.fork()
      if not answer:
        call(**job)
      running.add(answer)
    print(json.dumps(answer), file=answers, flush=True)
  for pid in running:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


if __name__ == '__main__':
  main()
