"""What a user types to open a run."""

import os
import shlex


def command_for(mode: str, workdir: str | os.PathLike[str]) -> str:
  """The command of a `--mode` for a run's folder, quoted for a shell."""
  folder = shlex.quote(os.fspath(workdir))
  return f'python -m adapad_jax.main --mode={mode} --workdir={folder}'
