"""A module of the experiments run in a process of its own."""

import json
import os
import subprocess
import sys
from typing import Any


def call(
  module: str,
  *args: str,
  env: dict[str, str] | None = None,
  timeout: float | None = None,
) -> Any:
  """The JSON value in the last line of what `python -m module args` prints.

  Args:
    module: what is run.
    *args: given to it.
    env: variables beside those of this process.
    timeout: seconds, None being no limit.

  Raises:
    RuntimeError: with the end of what it wrote on stderr, if it failed, or if it took
      too long.
  """
  command = [sys.executable, '-m', module, *args]
  try:
    done = subprocess.run(
      command,
      capture_output=True,
      text=True,
      env=os.environ | (env or {}),
      timeout=timeout,
    )
  except subprocess.TimeoutExpired as error:
    raise RuntimeError(f'{module} was not done after {timeout:.0f} s') from error
  if done.returncode:
    said = done.stderr.strip()[-2000:]
    raise RuntimeError(f'{module} {" ".join(args)} failed: {said}')
  return json.loads(done.stdout.splitlines()[-1])
