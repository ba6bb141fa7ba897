"""A run that was trained before, opened from its workdir: to evaluate and to use."""

import dataclasses
import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from adapad_jax.adapters import Adapter
from adapad_jax.deflation.deployed import Deployed
from adapad_jax.tasks import Split
from adapad_jax.tasks.task import Outputs
from adapad_jax.training.evaluate import Evaluator
from adapad_jax.training.plan import Plan, make_plan
from adapad_jax.training.session import Session, host_adapter, open_run, read_workdir


@dataclasses.dataclass(frozen=True)
class SavedRun:
  """A model with the update that a run has saved, on this machine's devices.

  Attributes:
    plan: the config, the task and its data, the modules.
    session: the model with its weights.
    step: rounds done when the state was saved.
    deployed: the update and the head.
  """

  plan: Plan
  session: Session
  step: int
  deployed: Deployed

  @functools.cached_property
  def adapter(self) -> Adapter:
    """The update and the head in host memory: (a, b) of every module, float32.

    Raises:
      ValueError: for method 'full', which changes every parameter of the model.
    """
    return host_adapter(self.plan.modules, self.deployed)

  @functools.cached_property
  def _evaluator(self) -> Evaluator:
    # Kept, because predictions compile once for an evaluator.
    return self.session.evaluator()

  def evaluate(self, split: str = '', max_rank: int = 0) -> dict[str, float]:
    """The task's metrics of a split.

    Args:
      split: a name of `plan.task.splits`; '' means all validation splits together,
        which is what training reports.
      max_rank: keeps the first so many components of every module; 0 keeps all.

    Raises:
      ValueError: if there is no such split, or its rows have no labels.
    """
    if split:
      rows = self.plan.task.splits[split]
      return self.plan.task.evaluate(rows, self.outputs(rows, max_rank))
    prefix = max_rank or self.plan.method.capacity
    with jax.set_mesh(self.plan.mesh):
      return self._evaluator.validate(self.session.params, self.deployed, prefix)

  def outputs(self, split: Split, max_rank: int = 0) -> Outputs:
    """What the task's `predict` gives for each row: for classes 'logits_BC', (N, C)."""
    prefix = max_rank or self.plan.method.capacity
    params, deployed = self.session.params, self.deployed
    with jax.set_mesh(self.plan.mesh):
      return self._evaluator.outputs(params, deployed, split, prefix)

  def predict(
    self, rows: Sequence[Mapping[str, Any]], max_rank: int = 0
  ) -> list[dict[str, Any]]:
    """Predictions for rows in memory, one dict each, as `--mode=predict` writes them.

    Args:
      rows: the task's columns by name, such as {'text': 'A fine film.'}.
      max_rank: see `evaluate`.

    Raises:
      ValueError: if a column is missing or a text is empty.
    """
    with tempfile.TemporaryDirectory() as folder:
      given, found = (pathlib.Path(folder) / f'{x}.jsonl' for x in ('rows', 'found'))
      given.write_text(''.join(json.dumps(dict(row)) + '\n' for row in rows))
      split = self.plan.task.read(given)
      outputs = self.outputs(split, max_rank)
      self.plan.task.write_predictions(split, outputs, found)
      lines = found.read_text(encoding='utf-8').split('\n')
      return [json.loads(line) for line in lines if line]


def restore(workdir: str | os.PathLike[str], checkpoint: str = 'best') -> SavedRun:
  """Opens a run: reads its config, data and model, and the state that it saved.

  The state goes onto the devices at hand, whatever devices trained it.

  Args:
    workdir: the folder of the run, finished or not.
    checkpoint: 'best' by the task's metric, or 'latest'.

  Raises:
    ValueError: if there is no run, or nothing of that kind has been saved yet.
  """
  folder = pathlib.Path(workdir)
  plan = make_plan(read_workdir(folder))
  with jax.set_mesh(plan.mesh):
    opened = open_run(plan, folder, checkpoint)
  return SavedRun(plan, opened.session, opened.restored.step, opened.deployed)
