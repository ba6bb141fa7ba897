"""Files that a mode writes for the user: never over another one unasked."""

import os
import pathlib
from collections.abc import Iterable


def check_outputs(
  paths: Iterable[pathlib.Path],
  *,
  overwrite: bool,
  source: pathlib.Path | None = None,
) -> None:
  """Checks that files can be written, before the work whose results they take.

  Args:
    paths: what will be written.
    overwrite: whether files that exist may be replaced.
    source: the file that is read, which never may be.

  Raises:
    ValueError: if one exists, is the source under whatever name, or lies where nothing
      can be written.
  """
  for path in paths:
    if source is not None and _same(path, source):
      raise ValueError(
        f'--output={path} is the file that --input={source} names; it would be lost:'
        ' choose another --output'
      )
    _check_place(path)
    if os.path.lexists(path) and not overwrite:
      raise ValueError(
        f'{path} exists already; choose another --output, or replace it with'
        ' --overwrite'
      )


def _same(path: pathlib.Path, source: pathlib.Path) -> bool:
  """Whether two paths are one file, through links and other spellings too."""
  try:
    return path.samefile(source)
  except (OSError, ValueError):
    return False


def _check_place(path: pathlib.Path) -> None:
  try:
    path.lstat()
  except FileNotFoundError:
    pass
  except NotADirectoryError:
    pass  # Named below, by its parent.
  except (OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise ValueError(f'{path} cannot be written: {reason}') from error
  if path.is_dir():
    raise ValueError(f'{path} is a folder; --output must name a file')
  folder = next(parent for parent in path.absolute().parents if parent.exists())
  if not folder.is_dir():
    raise ValueError(f'{path} cannot be written: {folder} is not a folder')
  if not os.access(folder, os.W_OK | os.X_OK):
    raise ValueError(f'{path} cannot be written: no permission to write in {folder}')
