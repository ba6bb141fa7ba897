"""The folder of a run: its files, who holds it, and that it is the run asked for.

Needs none of the other modules here, so that every program can keep its runs so.
"""

import contextlib
import fcntl
import importlib.metadata
import os
import pathlib
import platform
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from adapad_jax.files import read_json
from adapad_jax.processes import first_does

CONFIG, RECORD, RESULT = 'config.json', 'run.json', 'result.json'
CHECKPOINTS, SPECTRA, LOCK = 'checkpoints', 'spectra.json', 'lock'
# etils reads a path as a pattern, tensorstore a backslash as a separator.
_PATTERNS = '[*?\\'
_PACKAGES = (
  'adapad-jax',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'transformers',
  'numpy',
)


def versions() -> dict[str, str]:
  """Versions of Python and the packages that matter."""
  return {'python': platform.python_version()} | {n: _version(n) for n in _PACKAGES}


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'not installed'  # This project itself may run from a mere checkout.


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


def config_of(workdir: pathlib.Path) -> dict[str, Any]:
  """The config of the run in a workdir, as it was written.

  Raises:
    ValueError: if there is none.
  """
  path = workdir / CONFIG
  if not path.is_file():
    raise ValueError(f'{workdir} holds no run: there is no {CONFIG}; train one first')
  found = read_json(path)
  if not isinstance(found, dict):
    raise ValueError(f'{path} is not the config of a run: it holds {found!r:.40}')
  return found


def is_regression(workdir: pathlib.Path) -> bool:
  """Whether a workdir holds a run of `program = 'regression'`."""
  has_config = (workdir / CONFIG).is_file()
  return has_config and config_of(workdir).get('program') == 'regression'


def require_same_config(
  workdir: pathlib.Path,
  mine: Mapping[str, Any],
  there: Mapping[str, Any],
  free: tuple[str, ...] = (),
) -> None:
  """Refuses to go on with a run under another config.

  Args:
    workdir: where the run is.
    mine: what is asked for.
    there: what the run was begun with.
    free: how names of fields begin that may differ.

  Raises:
    ValueError: naming the fields that differ.
  """
  flat_mine, flat_there = _flat(mine), _flat(there)
  differ = [
    f'{name} is {flat_mine.get(name)!r}, there it is {flat_there.get(name)!r}'
    for name in sorted(flat_mine | flat_there)
    if flat_mine.get(name) != flat_there.get(name) and not name.startswith(free)
  ]
  if differ:
    raise ValueError(
      f'{workdir} holds a run with another config: {"; ".join(differ)};'
      ' choose another --workdir, or remove that one'
    )


def _flat(value: Any, prefix: str = '') -> dict[str, Any]:
  if not isinstance(value, Mapping):
    return {prefix.rstrip('.'): value}
  merged: dict[str, Any] = {}
  for name, item in value.items():
    merged |= _flat(item, f'{prefix}{name}.')
  return merged


def absolute(path: str) -> str:
  """A path in a config such that it means the same in every folder; '' stays."""
  if not path or '://' in path:
    return path
  return str(at(path).absolute())
