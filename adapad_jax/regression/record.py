"""What a run of program 'regression' was begun with, kept in its workdir."""

import dataclasses
import pathlib
from typing import Any

from adapad_jax.files import read_json
from adapad_jax.origins import file_origin
from adapad_jax.regression.config import RegressionConfig
from adapad_jax.workdir import RECORD, absolute, versions

_FORMAT = 1
_FILES = ('x', 'y')


def settled(settings: RegressionConfig) -> RegressionConfig:
  """The settings with absolute paths, which mean the same in every folder."""
  paths = {name: absolute(getattr(settings.data, name)) for name in _FILES}
  data = dataclasses.replace(settings.data, **paths)
  return dataclasses.replace(settings, data=data)


def record_of(settings: RegressionConfig) -> dict[str, Any]:
  """The data's files by field, with size and digest, and versions of packages."""
  paths = {name: getattr(settings.data, name) for name in _FILES}
  return {
    'format': _FORMAT,
    'program': 'regression',
    'files': {
      f'data.{name}': dataclasses.asdict(file_origin(pathlib.Path(path)))
      for name, path in paths.items()
      if path
    },
    'versions': versions(),
  }


def require_same_files(workdir: pathlib.Path) -> None:
  """Refuses a run whose data are not what they were when it began.

  A run from before there were records has nothing to compare.

  Raises:
    ValueError: naming the file that is gone or has changed.
  """
  if not (workdir / RECORD).is_file():
    return
  for name, then in read_json(workdir / RECORD)['files'].items():
    path = pathlib.Path(then['path'])
    if not path.is_file():
      raise ValueError(f'{name}={path} of the run in {workdir} is not there any more')
    now = dataclasses.asdict(file_origin(path))
    if now != then:
      raise ValueError(
        f'{name}={path} has changed since the run in {workdir} began'
        f' ({then["bytes"]} bytes then, {now["bytes"]} now; {then["digest"]} then,'
        f' {now["digest"]} now); put it back, or begin another run'
      )
