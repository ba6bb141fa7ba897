"""Predictions and metrics of an update, whole or cut to a prefix."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from adapad_jax.adapters import Attachment
from adapad_jax.lowrank import Deployed
from adapad_jax.processes import are_several
from adapad_jax.sharding import DATA, MODEL, WORKER, put, specs_of
from adapad_jax.tasks import Split, Task
from adapad_jax.tasks.task import validation_names
from adapad_jax.training.batches import cut_to_bucket, lengths, padded, trimmed
from adapad_jax.training.watchdog import Watchdog

# Rows of an evaluation lie on all devices.
SPREAD = jax.P((WORKER, DATA, MODEL))


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """Runs a task's predictions on all devices of a mesh.

  Attributes:
    task: what predicts and scores.
    rows: rows of one batch, a multiple of the number of devices.
    predict: the compiled (params, deployed, prefix, batch) -> outputs.
    buckets: lengths that batches are padded to, see `TrainConfig`.
    watchdog: names an evaluation that does not move.
  """

  task: Task
  rows: int
  predict: Callable[..., dict[str, jax.Array]]
  buckets: tuple[int, ...] = ()
  watchdog: Watchdog = dataclasses.field(default_factory=lambda: Watchdog(0))

  def outputs(
    self, params: Any, deployed: Deployed, split: Split, prefix: int
  ) -> dict[str, np.ndarray]:
    """Outputs of every row of a split, in its order."""
    columns = trimmed(split.columns)
    order_N = np.arange(len(split))
    if self.buckets:
      order_N = np.argsort(lengths(columns), kind='stable')
      columns = {name: x[order_N] for name, x in columns.items()}
    prefix = put(np.int32(prefix))
    parts, host = [], []
    with self.watchdog.over('evaluation'):
      for start in range(0, len(split), self.rows):
        self.watchdog.moved(f'evaluation, sending off {self._rows_of(start, split)}')
        batch = cut_to_bucket(padded(columns, start, self.rows), self.buckets)
        batch = put(batch, SPREAD)
        parts.append(self.predict(params, deployed, prefix, batch))
      for part in parts:
        rows = self._rows_of(len(host) * self.rows, split)
        self.watchdog.moved(f'evaluation, waiting for {rows}')
        host.append(jax.device_get(part))
    back_N = np.argsort(order_N)
    return {name: _joined([part[name] for part in host])[back_N] for name in host[0]}

  def _rows_of(self, start: int, split: Split) -> str:
    last = min(start + self.rows, len(split))
    return f'rows {start + 1} to {last} of {len(split)}'

  def validation_outputs(
    self, params: Any, deployed: Deployed, prefix: int
  ) -> dict[str, dict[str, np.ndarray]]:
    """Outputs of every validation split, by its name."""
    return {
      name: self.outputs(params, deployed, self.task.splits[name], prefix)
      for name in validation_names(self.task.splits)
    }

  def validate(self, params: Any, deployed: Deployed, prefix: int) -> dict[str, float]:
    """Metrics of all validation splits together, see `score`."""
    return self.score(self.validation_outputs(params, deployed, prefix))

  def score(self, outputs: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Metrics of the outputs of all validation splits together.

    Raises:
      ValueError: if the task's own metric is not among them.
    """
    metrics: dict[str, float] = {}
    for name, found in outputs.items():
      metrics |= self.task.evaluate(self.task.splits[name], found)
    if self.task.metric not in metrics:
      raise ValueError(
        f'task {self.task.name!r} chooses its best state by {self.task.metric!r}, but'
        f' its validation data gives {sorted(metrics)}'
      )
    return metrics


def _joined(parts: list[np.ndarray]) -> np.ndarray:
  """Rows of all batches; positions that shorter batches lack are zero."""
  longest = np.max([part.shape for part in parts], axis=0)[1:]
  fit = lambda x: np.pad(
    x, [(0, 0), *((0, n - m) for n, m in zip(longest, x.shape[1:], strict=True))]
  )
  return np.concatenate([fit(part) for part in parts])


def make_evaluator(
  task: Task,
  attachment: Attachment,
  modules: tuple[str, ...],
  mesh: jax.sharding.Mesh,
  batch: int,
  buckets: tuple[int, ...] = (),
  watchdog: float = 0,
) -> Evaluator:
  """Compiles nothing yet; each length of rows compiles once when it is met.

  Args:
    task: what to predict.
    attachment: puts the model together.
    modules: the adapted modules, in the order of the M axis.
    mesh: rows are spread over all its devices.
    batch: rows to predict at once; rounded up to a multiple of the devices.
    buckets: see `TrainConfig`.
    watchdog: seconds without progress that are talked of; 0: none.
  """
  rows = -(-batch // mesh.size) * mesh.size
  own = rows // mesh.size

  def predict(params: Any, deployed: Deployed, prefix: jax.Array, batch: Any) -> Any:
    with jax.named_scope('evaluation'):
      deltas = deployed.deltas(modules, own, prefix)
      whole = deployed.backbone(params)
      return task.predict(attachment(whole, deltas, deployed.head), batch)

  def evaluation(params: Any, deployed: Deployed, prefix: jax.Array, batch: Any) -> Any:
    found = jax.shard_map(
      predict,
      mesh=mesh,
      in_specs=(specs_of(params), jax.P(), jax.P(), SPREAD),
      out_specs=SPREAD,
      check_vma=False,
    )(params, deployed, prefix, batch)
    # A process can read the rows of others only where it has a copy.
    return jax.reshard(found, jax.P()) if are_several() else found

  return Evaluator(task, rows, jax.jit(evaluation), buckets, Watchdog(watchdog))
