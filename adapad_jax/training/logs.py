"""The logs of a run: lines of JSON, TensorBoard, Weights & Biases."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapad_jax.errors import doing
from adapad_jax.files import finite
from adapad_jax.training.wandb_log import WandbLog
from adapad_jax.workdir import METRICS, RANKS, SAMPLES, JsonLines

if TYPE_CHECKING:
  from adapad_jax.training.board import Board


class RunLog:
  """The logs of a run: `metrics.jsonl`, `ranks.jsonl`, TensorBoard, and W&B if asked.

  Where a task has the model say something there is `samples.jsonl` as well.

  Args:
    workdir: where files go.
    resume_at: see `JsonLines`.
    wandb: where scalars go as well.
  """

  def __init__(
    self, workdir: pathlib.Path, resume_at: int, wandb: WandbLog | None = None
  ) -> None:
    self._wandb = wandb
    self._metrics = JsonLines(workdir / METRICS, resume_at)
    self._ranks = JsonLines(workdir / RANKS, resume_at)
    # Made when there is something to write.
    self._samples = functools.cache(lambda: JsonLines(workdir / SAMPLES, resume_at))
    self._folder = workdir / 'tensorboard'
    with doing(f'writing to {self._folder}'):
      self._folder.mkdir(parents=True, exist_ok=True)
    self._board = functools.cache(lambda: self._open_board(resume_at + 1))

  def _open_board(self, first: int) -> 'Board':
    # At the first scalars, which are there after the first round: it brings torch in
    # where that is installed, and a run should begin before that.
    from adapad_jax.training.board import Board

    return Board(self._folder, first)

  def metrics(self, step: int, values: Mapping[str, float]) -> None:
    """Writes scalars, named like 'train/loss'."""
    self._metrics.write(step, values)
    scalars = {k: v for k, v in finite(dict(values)).items() if v is not None}
    with doing(f'writing to {self._folder}'):
      self._board().write(step, scalars)
    if self._wandb is not None:
      self._wandb.metrics(step, scalars)

  def ranks(self, step: int, values: Mapping[str, Any]) -> None:
    """Writes the rank of every module and what growth goes by."""
    self._ranks.write(step, values)

  def samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
    """Writes what the model has said."""
    self._samples().write(step, {'samples': [dict(one) for one in samples]})

  def close(self) -> None:
    """Frees TensorBoard's file; ends the run at W&B."""
    if self._board.cache_info().currsize:
      self._board().close()
    if self._wandb is not None:
      self._wandb.close()


class NoLog:
  """Of several processes, what all but the first write."""

  def metrics(self, step: int, values: Mapping[str, float]) -> None:
    """Nothing."""

  def ranks(self, step: int, values: Mapping[str, Any]) -> None:
    """Nothing."""

  def samples(self, step: int, samples: Sequence[Mapping[str, Any]]) -> None:
    """Nothing."""

  def close(self) -> None:
    """Nothing."""
