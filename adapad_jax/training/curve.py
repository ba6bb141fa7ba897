"""The truncation curve: the metric of an update cut to its first components."""

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from adapad_jax.lowrank import Deployed
from adapad_jax.tasks import Split, Task
from adapad_jax.tasks.task import Outputs, metric_suffix, validation_names
from adapad_jax.training.session import Session


@dataclasses.dataclass(frozen=True)
class Curve:
  """The task's metric by components kept of every module, 0, 1, ... all.

  Attributes:
    values: None where it was not asked for.
    errors: standard deviation of the rows' own values over sqrt(rows), rows taken as
      independent; None where the metric is no mean over rows.
    split: of which rows were scored.
    rows, rows_in_all: so many of so many; a sample is the same for every prefix.
  """

  values: list[float | None]
  errors: list[float | None]
  split: str
  rows: int
  rows_in_all: int


def truncation_curve(
  session: Session, deployed: Deployed, known: Mapping[str, Outputs] | None = None
) -> Curve:
  """Scores the prefixes that `train.curve_from` asks for on `train.curve_rows` rows.

  Args:
    session: the model.
    deployed: the update, on the current mesh.
    known: outputs of the whole update by validation split, so that it is not scored
      again; None if they are not at hand.
  """
  plan, params = session.plan, session.params
  task, train, most = plan.task, plan.config.train, plan.method.capacity
  split = split_of_metric(task)
  rows_M, part = np.arange(len(split)), split
  if 0 < train.curve_rows < len(split):
    rows_M, part = task.sample(split, train.curve_rows, plan.config.seed)

  def outputs() -> Iterator[Outputs | None]:
    for k in range(most + 1):
      if k == most and known is not None:
        yield {name: x[rows_M] for name, x in known[split.name].items()}
      elif k >= train.curve_from or k == most:
        yield session.evaluator.outputs(params, deployed, part, k)
      else:
        yield None

  scored = [one and _scored(task, part, one) for one in outputs()]
  return Curve(
    values=[one and one[0] for one in scored],
    errors=[one and one[1] for one in scored],
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


def _scored(task: Task, part: Split, outputs: Outputs) -> tuple[float, float | None]:
  """The metric and its standard error."""
  value = task.evaluate(part, outputs)[task.metric]
  own_N = task.by_row(part, outputs).get(task.metric)
  if own_N is None or len(own_N) < 2:
    return value, None
  return value, float(np.std(own_N, ddof=1) / math.sqrt(len(own_N)))
