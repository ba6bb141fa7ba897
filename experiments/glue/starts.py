"""Starts along the gradient beside drawn ones, by held-out loss.

  python -m experiments.glue.starts --data=FOLDER --tasks=cola --steps=802
  python -m experiments.glue.starts --tasks=cola --steps=802 --table

FOLDER has the official GLUE files, FOLDER/CoLA and so on. MiniLM, AdaPaD's default
recipe and LoRA of rank 2, which has every ingredient but deflation. A fifth of the
training rows is held out; a run is scored on it once, at its end, by the loss, by the
area under the ROC curve where there are two classes, and by the task's metric.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import scipy.special
import sklearn.metrics

from adapad_jax.compilation import keep_compiled
from adapad_jax.training import FinetuneConfig, train
from adapad_jax.training.saved import SavedRun, restore
from experiments.glue.settings import FOLDERS, Spec, config_of
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, matching, row
from experiments.tables import markdown, paired_text

# Batches that the gradient is summed over, and steps of the head before them.
STARTS = {'drawn': (0, 0), 'gradient': (16, 30), 'gradient, head as drawn': (16, 0)}


@dataclasses.dataclass(frozen=True)
class Options:
  """What is combined.

  Attributes:
    data: folder of the GLUE files.
    tasks, methods, starts, seeds: of the runs.
    rate: peak rate of all of them.
    steps: of a run.
  """

  data: str = ''
  tasks: tuple[Literal[*FOLDERS], ...] = ('cola',)
  methods: tuple[Literal['adapad', 'lora'], ...] = ('adapad', 'lora')
  starts: tuple[Literal[*STARTS], ...] = ('drawn', 'gradient')
  seeds: tuple[int, ...] = (1000, 1001, 1002)
  rate: float = 1e-3
  steps: int = 802


@dataclasses.dataclass(frozen=True)
class Case:
  """One run."""

  seed: int
  task: str
  method: str
  start: str
  rate: float
  steps: int


def cases(run: Run) -> Iterator[Case]:
  """Seed by seed, so that whatever is there can be compared."""
  o = run.options
  for seed in o.seeds:
    for task in o.tasks:
      for start in o.starts:
        for method in o.methods:
          yield Case(seed, task, method, start, o.rate, o.steps)


def config_for(case: Case, data: pathlib.Path) -> FinetuneConfig:
  """A run of the comparison on the rows that are not held out, with another start."""
  spec = Spec(
    kind='tune',
    task=case.task,
    method=case.method,
    seed=case.seed,
    budget=2,
    targets='all-linear',
    epochs=0.0,
    steps=case.steps,
    batch=32,
    train_rows=0,
    eval_rows=0,
    rate=case.rate,
  )
  config, (batches, head_steps) = config_of(spec, data), STARTS[case.start]
  settings = dataclasses.replace(config.settings, gradient_batches=batches)
  # No prefix is scored.
  length = dataclasses.replace(config.train, head_steps=head_steps, curve_from=64)
  return dataclasses.replace(config, settings=settings, train=length)


def measure(run: Run, case: Case) -> Iterator[Row]:
  """The loss on the held-out rows, and what else they are scored by."""
  keep_compiled()
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder) / 'run'
    found = train(config_for(case, pathlib.Path(run.options.data)), workdir)
    loss, auc, rows = scores(restore(workdir))
  yield row(
    'held-out loss',
    loss,
    'nats a row' if auc is not None else 'squared error',
    **dataclasses.asdict(case),
    auc=auc,
    metric=found['metric'],
    score=found['last']['metrics'][found['metric']],
    rows=rows,
    seconds=round(found['seconds'], 1),
  )


def scores(saved: SavedRun) -> tuple[float, float | None, int]:
  """(mean loss, area under the ROC curve of two classes, rows) on the held-out rows."""
  split = saved.plan.task.splits['validation']
  outputs, label_N = saved.outputs(split), split.columns['label_B']
  if 'value_B' in outputs:
    return float(np.mean((outputs['value_B'] - label_N) ** 2)), None, len(label_N)
  log_p_NC = scipy.special.log_softmax(outputs['logits_BC'].astype(np.float64), axis=1)
  loss = -np.mean(np.take_along_axis(log_p_NC, label_N[:, None], axis=1))
  auc = sklearn.metrics.roc_auc_score(label_N, log_p_NC[:, 1] - log_p_NC[:, 0])
  return float(loss), float(auc), len(label_N)


def table(run: Run) -> str:
  """Means over seeds, and each start minus the drawn one of the same method."""
  lines = []
  for task in run.options.tasks:
    rows = matching(run.results.rows(), {'task': task, 'steps': run.options.steps})
    for method in run.options.methods:
      own = [one for one in rows if one['method'] == method]
      lines += [_line(task, method, start, own) for start in STARTS]
  lines = [line for line in lines if line]
  head = ['task', 'method', 'start', 'seeds', 'loss', 'AUC', 'metric', 'loss - drawn']
  return markdown(head, lines) if lines else 'no such runs yet'


def _line(task: str, method: str, start: str, rows: Sequence[Row]) -> list[str]:
  own = {one['seed']: one for one in rows if one['start'] == start}
  if not own:
    return []
  drawn = {one['seed']: one['value'] for one in rows if one['start'] == 'drawn'}
  losses = {seed: one['value'] for seed, one in own.items()}
  mean = lambda name: np.mean([one[name] for one in own.values()])
  auc = f'{mean("auc"):.4f}' if own[min(own)]['auc'] is not None else ''
  gap = paired_text(losses, drawn) if start != 'drawn' else ''
  loss, score = f'{np.mean(list(losses.values())):.4f}', f'{mean("score"):.4f}'
  return [task, method, start, str(len(own)), loss, auc, score, gap]


EXPERIMENT = Experiment(
  'glue.starts', Options(), measure, cases, key_of_fields, table, needs=('data',)
)

if __name__ == '__main__':
  main(EXPERIMENT)
