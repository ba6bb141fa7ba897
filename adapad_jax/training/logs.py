"""Metrics on disk: one JSON object a line, and TensorBoard."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from adapad_jax.files import finite, write_atomically
from adapad_jax.training.wandb_log import WandbLog

METRICS, RANKS = 'metrics.jsonl', 'ranks.jsonl'


class JsonLines:
  """A file of JSON objects, each with a `step`, that a resumed run continues.

  Args:
    path: the file.
    resume_at: lines of later steps, left by a run that died, are dropped.
  """

  def __init__(self, path: pathlib.Path, resume_at: int) -> None:
    self._path = path
    kept = [line for line in read_lines(path) if line['step'] <= resume_at]
    text = ''.join(json.dumps(line) + '\n' for line in kept if resume_at)
    write_atomically(path, lambda file: file.write(text))

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Appends one line; numbers that are not finite become null."""
    line = {'step': step, **finite(dict(values))}
    with self._path.open('a', encoding='utf-8') as file:
      file.write(json.dumps(line) + '\n')


def read_lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """The lines of such a file; a last line that was cut off is left out."""
  if not path.is_file():
    return []
  lines = []
  for text in path.read_text(encoding='utf-8').splitlines():
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      break
  return lines


class RunLog:
  """The logs of a run: `metrics.jsonl`, `ranks.jsonl`, TensorBoard, and W&B if asked.

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
    # Here, because it takes seconds, and brings torch in where that is installed.
    import tensorboardX

    self._board = tensorboardX.SummaryWriter(
      str(workdir / 'tensorboard'), purge_step=resume_at + 1
    )

  def metrics(self, step: int, values: Mapping[str, float]) -> None:
    """Writes scalars, named like 'train/loss'."""
    self._metrics.write(step, values)
    scalars = {k: v for k, v in finite(dict(values)).items() if v is not None}
    for name, value in scalars.items():
      self._board.add_scalar(name, value, step)
    if self._wandb is not None:
      self._wandb.metrics(step, scalars)

  def ranks(self, step: int, values: Mapping[str, Any]) -> None:
    """Writes the rank of every module and what growth goes by."""
    self._ranks.write(step, values)

  def close(self) -> None:
    """Flushes TensorBoard's file; ends the run at W&B."""
    self._board.close()
    if self._wandb is not None:
      self._wandb.close()


class NoLog:
  """Of several processes, what all but the first write."""

  def metrics(self, step: int, values: Mapping[str, float]) -> None:
    """Nothing."""

  def ranks(self, step: int, values: Mapping[str, Any]) -> None:
    """Nothing."""

  def close(self) -> None:
    """Nothing."""
