"""Metrics in Weights & Biases, where `train.wandb` names a project; extra `wandb`.

The package is imported when a run starts that wants it. Its own variables say where
things go: `WANDB_MODE=offline` keeps them in the workdir until `wandb sync`.
"""

import importlib.util
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import jax

from adapad_jax.files import write_atomically

# Holds the run's id, so that a run that goes on is still one run there.
ID = 'wandb_id.txt'


def check(project: str) -> None:
  """Refuses a project without the package, before anything slow starts.

  Raises:
    ValueError: with what to install.
  """
  if project and importlib.util.find_spec('wandb') is None:
    raise ValueError(
      f'train.wandb={project!r} needs the package wandb:'
      " pip install 'adapad-jax[wandb]', or leave train.wandb empty"
    )


class WandbLog:
  """A run there, new or gone on with."""

  def __init__(
    self, project: str, workdir: pathlib.Path, config: Mapping[str, Any]
  ) -> None:
    import wandb

    self._run = wandb.init(
      project=project,
      id=_id(workdir),
      name=workdir.name,
      dir=str(workdir),
      config=dict(config),
      resume='allow',
    )

  def metrics(self, step: int, values: Mapping[str, float]) -> None:
    """Sends finite scalars, named like 'train/loss'."""
    self._run.log(dict(values), step=step)

  def close(self) -> None:
    """Ends the run there; waits for what has not been sent."""
    self._run.finish()


def open_log(
  project: str, workdir: pathlib.Path, config: Mapping[str, Any]
) -> WandbLog | None:
  """The log of a run; None without a project, and on all processes but the first."""
  if not project or jax.process_index():
    return None
  return WandbLog(project, workdir, config)


def _id(workdir: pathlib.Path) -> str:
  path = workdir / ID
  if not path.is_file():
    write_atomically(path, lambda file: file.write(secrets.token_hex(4)))
  return path.read_text(encoding='utf-8')
