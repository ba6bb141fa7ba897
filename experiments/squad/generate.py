"""SmolLM2-135M generates the answers: before and after AdaPaD and fixed-rank LoRA.

  python -m experiments.export.smollm2 --out=MODEL
  python -m experiments.squad.generate --model=MODEL --data=FOLDER

FOLDER has train-v1.1.json and dev-v1.1.json, of which a part is drawn.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Literal

import jax

from adapad_jax.training.claim import read_workdir
from adapad_jax.training.plan import make_plan
from adapad_jax.training.result import adapter_parameters
from adapad_jax.training.saved import SavedRun, restore
from adapad_jax.workdir import CHECKPOINTS, CONFIG
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, row
from experiments.squad.span import run_main

# AdaPaD's budget lies between LoRA's one and two components in each of 210 modules.
METHODS = {
  'adapad': (
    '--config.method=adapad',
    '--config.adapad.budget=294',
    '--config.adapad.r_max=4',
    '--config.adapad.joint=0.75',
    '--config.adapad.polish=0.25',
  ),
  'lora': ('--config.method=lora', '--config.lora.rank=2'),
  'lora-1': ('--config.method=lora', '--config.lora.rank=1'),
}


@dataclasses.dataclass(frozen=True)
class Options:
  """What is trained.

  Attributes:
    model: folder that `experiments.export.smollm2` has written.
    data: folder with the official files.
    runs: folder of the runs.
    methods: names of `METHODS`.
    steps, batch: of a run.
    held: questions that are answered.
    length: tokens of a prompt with its answer.
  """

  model: str = ''
  data: str = ''
  runs: str = 'runs/squad'
  methods: tuple[Literal[*METHODS], ...] = tuple(METHODS)
  steps: int = 100
  batch: int = 16
  held: int = 500
  length: int = 320


@dataclasses.dataclass(frozen=True)
class Case:
  """A run, and the questions that it is scored on."""

  method: str
  steps: int
  batch: int
  questions: int


def cases(run: Run) -> list[Case]:
  """A run of every method."""
  options = run.options
  size = options.steps, options.batch, options.held
  return [Case(method, *size) for method in options.methods]


def measure(run: Run, case: Case) -> Iterator[Row]:
  """Metrics after training; the first run also gives those of the model alone."""
  workdir = pathlib.Path(run.options.runs) / f'say-{case.method}'
  saved = trained(workdir) or train(run.options, case.method, workdir)
  known = [one['figure'] for one in run.results.rows()]
  if not any(name.endswith(' before') for name in known):
    yield from metrics_of(untrained(saved), 'before', questions=case.questions)
  details = dataclasses.asdict(case) | {'device': jax.devices()[0].device_kind}
  yield from metrics_of(saved.progress.last['metrics'], 'after', **details)
  size = adapter_parameters(saved.plan, saved.deployed)
  yield row('adapter size', size, 'parameters', **details)
  yield row('training', round(saved.progress.seconds, 1), 's', **details)


def metrics_of(
  metrics: dict[str, float], when: str, **details: object
) -> Iterator[Row]:
  """The official metrics."""
  for name, value in metrics.items():
    unit = '' if name.endswith('total') else '%'
    yield row(f'{name} {when}', round(value, 3), unit, **details)


def train(options: Options, method: str, workdir: pathlib.Path) -> SavedRun:
  """Runs the main command, which goes on where it was stopped."""
  data = pathlib.Path(options.data)
  run_main(
    '--config=configs/squad.py:v1,decoder',
    f'--workdir={workdir}',
    f'--config.model.source={options.model}',
    '--config.model.dtype=float32',
    f'--config.data.train={data / "train-v1.1.json"}',
    f'--config.data.validation={data / "dev-v1.1.json"}',
    f'--config.data.max_length={options.length}',
    '--config.data.qa.max_answer=16',
    '--config.data.qa.max_question=48',
    '--config.data.qa.overlap=64',
    f'--config.data.max_eval_rows={options.held}',
    f'--config.train.steps={options.steps}',
    f'--config.train.batch={options.batch}',
    '--config.train.eval_batch=16',
    '--config.train.evaluations=1',
    '--config.train.checkpoint_every=20',
    '--config.optimizer.learning_rate=1e-3',
    '--config.train.buckets=(256,)',
    *METHODS[method],
  )
  return trained(workdir)


def trained(workdir: pathlib.Path) -> SavedRun | None:
  """The last state of a run that has taken all its rounds."""
  if not (workdir / CONFIG).is_file():
    return None
  plan = make_plan(read_workdir(workdir))
  if not (workdir / CHECKPOINTS / 'latest' / str(plan.method.rounds)).is_dir():
    return None
  return restore(workdir, 'latest')


def untrained(saved: SavedRun) -> dict[str, float]:
  """The official metrics of the model alone: the update cut to no components."""
  session = saved.session
  with jax.set_mesh(session.plan.mesh):
    return session.evaluator.validation(session.params, saved.deployed, 0).metrics


EXPERIMENT = Experiment(
  'squad.generate', Options(), measure, cases, key_of_fields, needs=('model', 'data')
)

if __name__ == '__main__':
  main(EXPERIMENT)
