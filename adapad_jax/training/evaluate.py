"""Predictions and metrics of an update, whole or cut to a prefix."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from adapad_jax.adapters import Attachment
from adapad_jax.deflation.deployed import Deployed
from adapad_jax.sharding import DATA, WORKER, put
from adapad_jax.tasks import Split, Task
from adapad_jax.training.batches import padded, trimmed


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """Runs a task's predictions on all devices of a mesh.

  Attributes:
    task: what predicts and scores.
    rows: rows of one batch, a multiple of the number of devices.
    predict: the compiled (params, deployed, prefix, batch) -> outputs.
  """

  task: Task
  rows: int
  predict: Callable[..., dict[str, jax.Array]]

  def outputs(
    self, params: Any, deployed: Deployed, split: Split, prefix: int
  ) -> dict[str, np.ndarray]:
    """Outputs of every row of a split, in its order."""
    columns = trimmed(split.columns)
    size = len(split)
    prefix = put(np.int32(prefix))
    parts = []
    for start in range(0, size, self.rows):
      rows = jax.P((WORKER, DATA))
      batch = put(padded(columns, start, self.rows), rows)
      parts.append(self.predict(params, deployed, prefix, batch))
    host = jax.device_get(parts)
    return {
      name: np.concatenate([part[name] for part in host])[:size] for name in host[0]
    }

  def metrics(
    self, params: Any, deployed: Deployed, split: Split, prefix: int
  ) -> dict[str, float]:
    """Metrics of a split."""
    return self.task.evaluate(split, self.outputs(params, deployed, split, prefix))

  def validate(self, params: Any, deployed: Deployed, prefix: int) -> dict[str, float]:
    """Metrics of all validation splits together."""
    names = [name for name in self.task.splits if name.startswith('validation')]
    metrics: dict[str, float] = {}
    for name in names:
      metrics |= self.metrics(params, deployed, self.task.splits[name], prefix)
    return metrics


def make_evaluator(
  task: Task,
  attachment: Attachment,
  modules: tuple[str, ...],
  mesh: jax.sharding.Mesh,
  batch: int,
) -> Evaluator:
  """Compiles nothing yet; each length of rows compiles once when it is met.

  Args:
    task: what to predict.
    attachment: puts the model together.
    modules: the adapted modules, in the order of the M axis.
    mesh: rows are spread over all its devices.
    batch: rows to predict at once; rounded up to a multiple of the devices.
  """
  rows = -(-batch // mesh.size) * mesh.size
  own = rows // mesh.size

  def predict(params: Any, deployed: Deployed, prefix: jax.Array, batch: Any) -> Any:
    deltas = deployed.deltas(modules, own, prefix)
    whole = deployed.backbone(params)
    return task.predict(attachment(whole, deltas, deployed.head), batch)

  spread = jax.P((WORKER, DATA))
  sharded = jax.shard_map(
    predict,
    mesh=mesh,
    in_specs=(jax.P(), jax.P(), jax.P(), spread),
    out_specs=spread,
    check_vma=False,
  )
  return Evaluator(task, rows, jax.jit(sharded))
