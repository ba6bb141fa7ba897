"""The folder of a run: names of its files, and who holds it."""

import contextlib
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

from adapad_jax.processes import first_does

CONFIG, RECORD, RESULT = 'config.json', 'run.json', 'result.json'
METRICS, RANKS, SPECTRA = 'metrics.jsonl', 'ranks.jsonl', 'spectra.json'
SAMPLES = 'samples.jsonl'
CHECKPOINTS, LOCK = 'checkpoints', 'lock'
# etils reads a path as a pattern, tensorstore a backslash as a separator.
_PATTERNS = '[*?\\'


def at(workdir: str | os.PathLike[str]) -> pathlib.Path:
  """The path of a workdir, `~` expanded."""
  return pathlib.Path(os.path.expanduser(workdir))


def require_usable(workdir: pathlib.Path) -> None:
  """Refuses a folder that no run can be kept in.

  Raises:
    ValueError: if a file is in its place, or checkpoints in it could not be read back.
  """
  whole = workdir.absolute()
  found = [character for character in _PATTERNS if character in str(whole)]
  if found:
    raise ValueError(
      f'--workdir={workdir}: {whole} has {found[0]!r} in it, which the library that'
      ' writes checkpoints takes for a pattern; choose another folder, or reach this'
      ' one by a symbolic link without it'
    )
  for place in (whole, *whole.parents):
    if place.exists() and not place.is_dir():
      raise ValueError(f'--workdir={workdir}: {place} is a file, not a folder')


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
  """Holds a workdir, made if need be, against other starts of the program.

  The system lets go when this process ends, whatever ends it. Of several processes of
  a run the first holds it.

  Raises:
    ValueError: if another one holds it.
  """
  require_usable(workdir)
  file = first_does(lambda: _lock(workdir))
  try:
    yield
  finally:
    if file is not None:
      file.close()


def _lock(workdir: pathlib.Path) -> Any:
  workdir.mkdir(parents=True, exist_ok=True)
  file = (workdir / LOCK).open('a+', encoding='utf-8')
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    holder = file.read().strip() or 'unknown'
    file.close()
    raise ValueError(
      f'{workdir} is in use by another run (process {holder}); wait for it to end,'
      ' stop it, or choose another --workdir'
    ) from None
  file.truncate(0)
  file.write(f'{os.getpid()} on {socket.gethostname()}\n')
  file.flush()
  return file


def absolute(path: str) -> str:
  """A path in a config such that it means the same in every folder; '' stays."""
  if not path or '://' in path:
    return path
  return str(at(path).absolute())
