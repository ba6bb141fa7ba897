"""The truncation curve: the metric of an update cut to its first components."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adapad_jax.lowrank import Deployed
from adapad_jax.tasks import Split, Task
from adapad_jax.tasks.task import Outputs, metric_suffix, validation_names
from adapad_jax.training.evaluate import Validation
from adapad_jax.training.session import Session


@dataclasses.dataclass(frozen=True)
class Curve:
  """The task's metric by components kept of every module, 0, 1, ... all.

  Attributes:
    values: None where it was not asked for.
    metrics: all metrics, those of generated answers included; None likewise.
    samples: answers to be read, by prefix; of the whole update the last evaluation
      has them.
    errors: standard deviation of the rows' own values over sqrt(rows), rows taken as
      independent; None where the metric is no mean over rows.
    split: of which rows were scored.
    rows, rows_in_all: so many of so many; a sample is the same for every prefix.
  """

  values: list[float | None]
  metrics: list[dict[str, float] | None]
  samples: list[list[dict[str, Any]]]
  errors: list[float | None]
  split: str
  rows: int
  rows_in_all: int


def aurac(values: Sequence[float | None]) -> float | None:
  """What an update is worth over all ranks: the mean of a metric over log2 k.

  By the trapezoidal rule over the prefixes k = 1, 2, ... that were scored; None where
  that is not at least two of them. The area under the rank-accuracy curve of
  MatryoshkaLoRA (arXiv:2605.07850), whose second version takes log2 k.

  Args:
    values: of the first 0, 1, 2, ... components.
  """
  known = [
    (math.log2(k), value) for k, value in enumerate(values) if k and value is not None
  ]
  log_K, value_K = np.array(known).reshape(-1, 2).T
  if len(log_K) < 2:
    return None
  return float(np.trapezoid(value_K, log_K) / (log_K[-1] - log_K[0]))


def truncation_curve(
  session: Session, deployed: Deployed, known: Validation | None = None
) -> Curve:
  """Scores the prefixes that `train.curve_from` asks for on `train.curve_rows` rows.

  Args:
    session: the model.
    deployed: the update, on the current mesh.
    known: what the whole update reaches, so that it is not scored again; None if that
      is not at hand.
  """
  plan, params = session.plan, session.params
  task, train, most = plan.task, plan.config.train, plan.method.capacity
  split = split_of_metric(task)
  rows_M, part = np.arange(len(split)), split
  if 0 < train.curve_rows < len(split):
    rows_M, part = task.sample(split, train.curve_rows, plan.config.seed)

  def scored(k: int) -> Validation | None:
    """What the first k components reach."""
    if k < train.curve_from and k < most:
      return None
    if k == most and known is not None:
      outputs = {name: x[rows_M] for name, x in known.outputs[split.name].items()}
      answers = Validation(known.metrics)
    else:
      outputs = session.evaluator.outputs(params, deployed, part, k)
      answers = session.evaluator.generated(params, deployed, split.name, k)
    metrics = answers.metrics | task.evaluate(part, outputs)
    return Validation(metrics, {split.name: outputs}, answers.samples)

  found = [scored(k) for k in range(most + 1)]
  return Curve(
    values=[one and one.metrics[task.metric] for one in found],
    metrics=[one and one.metrics for one in found],
    samples=[list(one.samples) if one else [] for one in found[:-1]],
    errors=[one and _error(task, part, one.outputs[split.name]) for one in found],
    split=split.name,
    rows=len(part),
    rows_in_all=len(split),
  )


def split_of_metric(task: Task) -> Split:
  """The validation split that the task's metric is of."""
  names = validation_names(task.splits)
  suffix = {name: metric_suffix(name) for name in names}
  fits = [name for name in names if task.metric.endswith(suffix[name])]
  return task.splits[max(fits or names, key=lambda name: len(suffix[name]))]


def _error(task: Task, part: Split, outputs: Outputs) -> float | None:
  """The standard error of the task's metric, if it is a mean over rows."""
  own_N = task.by_row(part, outputs).get(task.metric)
  if own_N is None or len(own_N) < 2:
    return None
  return float(np.std(own_N, ddof=1) / math.sqrt(len(own_N)))
