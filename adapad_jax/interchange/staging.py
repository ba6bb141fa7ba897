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
    ValueError: if `out` exists and is not an empty folder, it cannot be written, or a
      file elsewhere cannot be read.
  """
  out, stage = require_free(out), None
  try:
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = pathlib.Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
    files = _usual_mode(stage)
    stage.chmod(files | (files & 0o444) >> 2)  # mkdtemp hides it from other users
    yield stage
    for path in filter(pathlib.Path.is_file, stage.rglob('*')):
      path.chmod(files)  # safetensors hides what it writes
    _flush(stage)
    os.rename(stage, out)
  except (OSError, SafetensorError) as error:
    what = _source_of(error, out.parent) or f'write {out}'
    raise ValueError(f'cannot {what}: {error}; nothing was left at {out}') from error
  finally:
    if stage is not None:
      shutil.rmtree(stage, ignore_errors=True)


def _usual_mode(folder: pathlib.Path) -> int:
  """The mode that a new file gets by the umask."""
  probe = folder / '.mode'
  probe.touch()
  mode = probe.stat().st_mode & 0o777
  probe.unlink()
  return mode


def _source_of(error: Exception, here: pathlib.Path) -> str:
  """'read FILE' for an error at a file that lies elsewhere; '' for all others."""
  name = getattr(error, 'filename', None)
  # With two names it was a copy that failed, and at its target.
  if not isinstance(name, str | os.PathLike) or error.filename2 is not None:
    return ''
  path = pathlib.Path(name).absolute()
  is_ours = path in (here, *here.parents) or here in path.parents
  return '' if is_ours else f'read {path}'


def _flush(folder: pathlib.Path) -> None:
  """Makes the files durable before the rename makes them visible."""
  for path in (*folder.rglob('*'), folder):
    handle = os.open(path, os.O_RDONLY)
    try:
      os.fsync(handle)
    finally:
      os.close(handle)
