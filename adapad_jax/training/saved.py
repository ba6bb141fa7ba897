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
import numpy as np

from adapad_jax.lowrank import Adapter, Deployed, host_adapter
from adapad_jax.tasks import Split
from adapad_jax.tasks.task import Outputs
from adapad_jax.training import completions
from adapad_jax.training.checkpoints import Checkpoints
from adapad_jax.training.claim import read_workdir
from adapad_jax.training.commits import at_commits, recorded
from adapad_jax.training.cutting import check_cut, cut_deployed, require_adapter
from adapad_jax.training.evaluate import Program
from adapad_jax.training.plan import Plan, make_plan, on_devices_at_hand
from adapad_jax.training.progress import Progress
from adapad_jax.training.record import read_record, require_same_model
from adapad_jax.training.session import Session, open_session
from adapad_jax.workdir import CHECKPOINTS, at


@dataclasses.dataclass(frozen=True)
class SavedRun:
  """A model with the update that a run has saved, on this machine's devices.

  Attributes:
    session: the plan, and the model with its weights.
    progress: where the run stood when the state was saved; the state itself is not
      kept.
    deployed: the update and the head.
    metrics: of the validation splits, as training measured them in this state; empty
      for one that was saved between two evaluations.
  """

  session: Session
  progress: Progress
  deployed: Deployed
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)

  @property
  def plan(self) -> Plan:
    """The config, the task and its data, the modules."""
    return self.session.plan

  @property
  def step(self) -> int:
    """Rounds done when the state was saved."""
    return self.progress.step

  @functools.cached_property
  def adapter(self) -> Adapter:
    """The update and the head in host memory: (a, b) of every module, float32.

    Raises:
      ValueError: for method 'full', which changes every parameter of the model.
    """
    return host_adapter(self.plan.modules, self.deployed)

  @functools.cached_property
  def programs(self) -> dict[Any, Program]:
    """Compiled programs that answer prompts, by what they were compiled for."""
    return {}

  def evaluate(
    self, split: str = '', max_rank: int = 0, budget: int = 0
  ) -> dict[str, float]:
    """The task's metrics of a split.

    Args:
      split: a name of `plan.task.splits`; '' means all validation splits together,
        which is what training reports.
      max_rank: keeps the first so many components of every module; 0 keeps all.
      budget: keeps so many components over all modules; 0 keeps all.

    Raises:
      ValueError: if there is no such split, its rows have no labels, its data are not
        what they were when the run began, or the update cannot be cut as asked.
    """
    with jax.set_mesh(self.plan.mesh):
      deployed, prefix = self.cut(max_rank, budget)
      evaluator, params = self.session.evaluator, self.session.params
      if not split:
        return evaluator.validation(params, deployed, prefix).metrics
      rows = self.plan.task.splits[split]
      outputs = evaluator.outputs(params, deployed, rows, prefix)
      answers = evaluator.generated(params, deployed, split, prefix)
    return self.plan.task.evaluate(rows, outputs) | answers.metrics

  def evaluate_file(
    self, path: str | os.PathLike[str], max_rank: int = 0, budget: int = 0
  ) -> dict[str, float]:
    """The task's metrics of a file with the task's columns, labels too.

    Where generated answers are scored, their exact match is among them; NaN if no row
    has a final answer.

    Raises:
      ValueError: if it cannot be read, a row has no label, or one of no class of the
        run, or the update cannot be cut as asked.
    """
    rows = self.plan.task.read(path, labelled=True)
    with jax.set_mesh(self.plan.mesh):
      deployed, prefix = self.cut(max_rank, budget)
      evaluator, params = self.session.evaluator, self.session.params
      outputs = evaluator.outputs(params, deployed, rows, prefix)
      answered = evaluator.answered(params, deployed, rows, prefix)
    return self.plan.task.evaluate(rows, outputs) | answered

  def outputs(self, split: Split, max_rank: int = 0, budget: int = 0) -> Outputs:
    """What the task's `predict` gives for each row: for classes 'logits_BC', (N, C)."""
    with jax.set_mesh(self.plan.mesh):
      deployed, prefix = self.cut(max_rank, budget)
      session = self.session
      return session.evaluator.outputs(session.params, deployed, split, prefix)

  def cut(self, max_rank: int, budget: int) -> tuple[Deployed, int]:
    """The update and how much of every module to use of it, on the current mesh."""
    check_cut(max_rank, budget)
    require_adapter(self.deployed, max_rank, budget)
    capacity = self.plan.method.capacity
    # More than there are means all; on the devices the number has 32 bits.
    prefix = min(max_rank or capacity, capacity)
    if not budget:
      return self.deployed, prefix
    modules = self.plan.modules
    return cut_deployed(self.deployed, self.adapter, modules, budget), prefix

  def predict(
    self, rows: Sequence[Mapping[str, Any]], max_rank: int = 0, budget: int = 0
  ) -> list[dict[str, Any]]:
    """Predictions for rows in memory, one dict each, as `--mode=predict` writes them.

    Args:
      rows: the task's columns by name, such as {'text': 'A fine film.'}.
      max_rank, budget: see `evaluate`.

    Raises:
      ValueError: if a column is missing, a text is empty, or a value is nothing that
        a file of rows could hold.
    """
    if self.plan.task.chat:
      decoding = completions.Decoding.of(self.plan.config.data.generation, {})
      named = [(f'row {i}', row) for i, row in enumerate(rows)]
      cells = completions.complete(self, named, decoding, max_rank, budget)
      lines = zip(*cells.values(), strict=True)
      return [
        {'index': i} | dict(zip(cells, x, strict=True)) for i, x in enumerate(lines)
      ]
    split = self.read_rows(rows)
    with tempfile.TemporaryDirectory() as folder:
      found = pathlib.Path(folder) / 'found.jsonl'
      outputs = self.outputs(split, max_rank, budget)
      self.plan.task.write_predictions(split, outputs, found)
      lines = found.read_text(encoding='utf-8').split('\n')
      return [json.loads(line) for line in lines if line]

  def read_rows(self, rows: Sequence[Mapping[str, Any]]) -> Split:
    """Rows in memory as a split, labels left out; arguments as in `predict`.

    Raises:
      ValueError: see `predict`.
    """
    with tempfile.TemporaryDirectory() as folder:
      given = pathlib.Path(folder) / 'rows.jsonl'
      given.write_text(''.join(_json_of(i, row) + '\n' for i, row in enumerate(rows)))
      try:
        return self.plan.task.read(given)
      except ValueError as error:  # The caller knows of no file.
        raise ValueError(str(error).replace(str(given), 'rows')) from error


def _json_of(number: int, row: Mapping[str, Any]) -> str:
  """A row in memory as a line of a file.

  Raises:
    ValueError: naming the row, from 0, and the column that no file could hold.
  """
  if not isinstance(row, Mapping):
    raise ValueError(f'row {number} must be columns by name, got {row!r:.60}')
  cells = []
  for name, value in row.items():
    if not isinstance(name, str):
      raise ValueError(f'row {number}: the name of a column must be text, got {name!r}')
    try:
      cells.append(f'{json.dumps(name)}: {json.dumps(value, default=_plain)}')
    except (TypeError, ValueError, RecursionError) as error:
      raise ValueError(
        f'row {number}, column {name!r}: {value!r:.60} cannot be read; a value is a'
        f' text, a number, true, false, None, or a list or dict of such ({error})'
      ) from error
  return '{' + ', '.join(cells) + '}'


def _plain(value: Any) -> Any:
  """A scalar of NumPy as Python's."""
  if isinstance(value, np.generic):
    return value.item()
  raise TypeError(f'its type is {type(value).__name__}')


def restore(workdir: str | os.PathLike[str], checkpoint: str = 'best') -> SavedRun:
  """Opens a run: reads its config, its model and the state that it saved.

  Classes, columns and lengths are those that the run has recorded. Data are read when a
  split is used, and must then be what they were; nothing in the workdir is changed. The
  state goes onto the devices at hand, whatever devices trained it.

  Args:
    workdir: the folder of the run, finished or not.
    checkpoint: 'best' by the task's metric, or 'latest'.

  Raises:
    ValueError: if there is no run, nothing of that kind has been saved yet, or the
      base model or its tokenizer is not what it was.
  """
  folder = at(workdir)
  config, record = on_devices_at_hand(read_workdir(folder)), read_record(folder)
  if record is not None:
    require_same_model(folder, record, at_commits(config, recorded(record)).model)
  plan = make_plan(config, record)
  with jax.set_mesh(plan.mesh):
    session = open_session(plan)
    checkpoints = Checkpoints(folder / CHECKPOINTS, read_only=True)
    progress = session.saved(checkpoints, checkpoint)
    checkpoints.close()
    if progress is None:
      raise ValueError(f'{folder / CHECKPOINTS} holds no {checkpoint} checkpoint yet')
    deployed = plan.method.deploy(progress.state)
  evaluated = progress.best if checkpoint == 'best' else progress.last
  is_of_it = evaluated is not None and evaluated['step'] == progress.step
  progress.state = None  # The optimiser's part of it is large.
  return SavedRun(session, progress, deployed, evaluated['metrics'] if is_of_it else {})
