"""What `python -m adapad_jax.main --mode=...` can do, one file a mode."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Request:
  """What the command line asked for.

  Attributes:
    config: the config dict as a plain nested dict; None without --config.
    workdir: folder of the run; None without --workdir.
    options: the other flags, by name.
    given: names of the flags that were given, those with their default value too.
  """

  config: Mapping[str, Any] | None
  workdir: pathlib.Path | None
  options: Mapping[str, Any]
  given: tuple[str, ...] = ()

  def run_folder(self) -> pathlib.Path:
    """The workdir.

    Raises:
      ValueError: if it was not given.
    """
    if self.workdir is None:
      raise ValueError('this mode needs --workdir=FOLDER, the folder of a run')
    return pathlib.Path(os.path.expanduser(self.workdir))
