"""Folders that appear whole or not at all."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from safetensors import SafetensorError


def require_free(out: str | pathlib.Path) -> pathlib.Path:
  """The absolute path of a folder that can be made, which is tried and undone.

  Raises:
    ValueError: if there is something already, or its place cannot be written.
  """
  out = pathlib.Path(out).expanduser().absolute()
  try:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
      raise ValueError(f'{out} exists already; remove it or choose another folder')
    above = next(folder for folder in out.parents if folder.exists())
    os.rmdir(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=above))
  except OSError as error:
    raise ValueError(f'cannot write {out}: {error}; nothing was left there') from error
  return out


@contextlib.contextmanager
def new_folder(out: str | pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder to write into, which becomes `out` when the context ends well.

  It lies beside `out` until then, so that the last step is one rename; on any error
  it is removed and `out` does not exist.

  Raises:
    ValueError: if `out` exists and is not an empty folder, or cannot be written.
  """
  out, stage = require_free(out), None
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = pathlib.Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
    stage.chmod(0o755)  # mkdtemp hides it from other users
    yield stage
    _flush(stage)
    os.rename(stage, out)
  except (OSError, SafetensorError) as error:
    raise ValueError(f'cannot write {out}: {error}; nothing was left there') from error
  finally:
    if stage is not None:
      shutil.rmtree(stage, ignore_errors=True)


def _flush(folder: pathlib.Path) -> None:
  """Makes the files durable before the rename makes them visible."""
  for path in (*folder.rglob('*'), folder):
    handle = os.open(path, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)
