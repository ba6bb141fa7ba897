"""Predictions and metrics of an update, whole or cut to a prefix."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from adapad_jax.adapters import Attachment
from adapad_jax.lowrank import Deployed
from adapad_jax.processes import are_several
from adapad_jax.sharding import DATA, MODEL, WORKER, put, specs_of
from adapad_jax.tasks import Split, Task
from adapad_jax.tasks.ragged import take
from adapad_jax.tasks.task import Outputs, validation_names
from adapad_jax.training.batches import cut_to_bucket, lengths, padded, trimmed
from adapad_jax.training.watchdog import Watchdog

# Rows of an evaluation lie on all devices.
SPREAD = jax.P((WORKER, DATA, MODEL))


Predict = Callable[..., dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Program:
  """Runs a compiled function over rows, on all devices of a mesh.

  Attributes:
    rows: rows of one batch, a multiple of the number of devices.
    predict: the compiled (params, deployed, prefix, batch) -> outputs.
    buckets: lengths that batches are padded to, see `TrainConfig`.
    watchdog: names an evaluation that does not move.
  """

  rows: int
  predict: Predict
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
      columns = {name: take(x, order_N) for name, x in columns.items()}
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


@dataclasses.dataclass(frozen=True)
class Validation:
  """What an update reaches on the validation data.

  Attributes:
    metrics: by name.
    outputs: of the task's `predict`, by split.
    samples: of what it generates, see `tasks.task.Generated`.
  """

  metrics: dict[str, float]
  outputs: Mapping[str, Outputs] = dataclasses.field(default_factory=dict)
  samples: Sequence[dict[str, Any]] = ()


@dataclasses.dataclass(frozen=True)
class Evaluator:
  """A task's predictions and metrics.

  Attributes:
    task: what predicts and scores.
    program: predicts.
    generator: generates what `task.generated` asks for; None if that is nothing.
  """

  task: Task
  program: Program
  generator: Program | None = None

  @property
  def watchdog(self) -> Watchdog:
    """Names an evaluation that does not move."""
    return self.program.watchdog

  def outputs(
    self, params: Any, deployed: Deployed, split: Split, prefix: int
  ) -> Outputs:
    """Outputs of every row of a split, in its order."""
    return self.program.outputs(params, deployed, split, prefix)

  def generated(
    self, params: Any, deployed: Deployed, name: str, prefix: int
  ) -> Validation:
    """Metrics and samples of what is generated for a split, if anything is."""
    asked = self.task.generated
    if asked is None or not len(split := asked.prompts[name]):
      return Validation({})
    found = self.generator.outputs(params, deployed, split, prefix)
    metrics, samples = asked.evaluate(split, found), asked.samples(split, found)
    return Validation(metrics, samples=samples)

  def answered(
    self, params: Any, deployed: Deployed, split: Split, prefix: int
  ) -> dict[str, float]:
    """Metrics of what is generated for rows that `task.read` made, if anything is."""
    asked = self.task.generated
    if asked is None:
      return {}
    rows = asked.ask(split)
    some = len(rows) > 0
    found = self.generator.outputs(params, deployed, rows, prefix) if some else {}
    return asked.evaluate(rows, found)

  def validation(self, params: Any, deployed: Deployed, prefix: int) -> Validation:
    """Metrics of all validation splits together, and what they come from.

    Raises:
      ValueError: if the task's own metric is not among them.
    """
    metrics: dict[str, float] = {}
    outputs, samples = {}, []
    for name in validation_names(self.task.splits):
      split = self.task.splits[name]
      outputs[name] = self.outputs(params, deployed, split, prefix)
      answers = self.generated(params, deployed, name, prefix)
      metrics |= self.task.evaluate(split, outputs[name]) | answers.metrics
      samples += answers.samples
    if self.task.metric not in metrics:
      raise ValueError(
        f'task {self.task.name!r} chooses its best state by {self.task.metric!r}, but'
        f' its validation data gives {sorted(metrics)}'
      )
    return Validation(metrics, outputs, samples)


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
  program = make_program(
    task.predict, attachment, modules, mesh, batch, buckets, watchdog
  )
  if task.generated is None:
    return Evaluator(task, program)
  few = min(batch, task.generated.most or batch)
  generator = make_program(
    task.generated.generate, attachment, modules, mesh, few, buckets, watchdog
  )
  # A run watches one: what moves within it is progress of the run.
  generator = dataclasses.replace(generator, watchdog=program.watchdog)
  return Evaluator(task, program, generator)


def make_program(
  predict: Predict,
  attachment: Attachment,
  modules: tuple[str, ...],
  mesh: jax.sharding.Mesh,
  batch: int,
  buckets: tuple[int, ...] = (),
  watchdog: float = 0,
) -> Program:
  """The same for one function (model, batch) -> outputs; arguments as there."""
  rows = -(-batch // mesh.size) * mesh.size
  function = compiled(predict, attachment, modules, mesh, rows)
  return Program(rows, function, buckets, Watchdog(watchdog))


def compiled(
  function: Predict,
  attachment: Attachment,
  modules: tuple[str, ...],
  mesh: jax.sharding.Mesh,
  rows: int,
) -> Predict:
  """(params, deployed, prefix, batch) -> outputs, of (model, batch) -> outputs."""
  own = rows // mesh.size

  def of_device(params: Any, deployed: Deployed, prefix: jax.Array, batch: Any) -> Any:
    with jax.named_scope('evaluation'):
      deltas = deployed.deltas(modules, own, prefix)
      whole = deployed.backbone(params)
      return function(attachment(whole, deltas, deployed.head), batch)

  def evaluation(params: Any, deployed: Deployed, prefix: jax.Array, batch: Any) -> Any:
    found = jax.shard_map(
      of_device,
      mesh=mesh,
      in_specs=(specs_of(params), jax.P(), jax.P(), SPREAD),
      out_specs=SPREAD,
      check_vma=False,
    )(params, deployed, prefix, batch)
    # A process can read the rows of others only where it has a copy.
    return jax.reshard(found, jax.P()) if are_several() else found

  return jax.jit(evaluation)
