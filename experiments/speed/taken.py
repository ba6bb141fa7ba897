"""Runs a command, to its end or until it prints a line, and tells what it took.

  python -I taken.py LINE COMMAND ...

Linux counts to a process's peak of memory that of the process it was started by. This
one stays small, so that the peak is the command's own however much the caller holds;
it imports nothing but what it needs for that.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any


def taken(line: str, command: list[str]) -> dict[str, Any]:
  """Seconds, processor time, GiB at the peak, exit code, and whether LINE was seen.

  Args:
    line: how the line begins that ends the command; '': it ends by itself.
    command: what to run; what it prints is read and dropped.
  """
  begun = time.perf_counter()
  process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
  with process.stdout as said:
    seen = any(text.startswith(line) for text in said if line)
    seconds = time.perf_counter() - begun
    if seen:
      process.kill()
    _, status, used = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  if not seen:  # It is over when it has ended, not when it has said all.
    seconds = time.perf_counter() - begun
  return {
    'seconds': seconds,
    'cpu': used.ru_utime + used.ru_stime,
    'peak': used.ru_maxrss / 2**20,
    'code': process.returncode,
    'seen': seen,
  }


if __name__ == '__main__':
  print(json.dumps(taken(sys.argv[1], sys.argv[2:])))
