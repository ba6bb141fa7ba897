"""What one run of the table is, and the config that it stands for."""

import dataclasses
import pathlib
from typing import Any

from adapad_jax import models
from adapad_jax.adapters import choose
from adapad_jax.models.head import Head
from adapad_jax.training import FinetuneConfig, finetune_config
from configs.common import MINILM
from configs.glue import get_config
from experiments.several_runs import Run

# Tokens of a row: most rows fit, and a step stays short.
LENGTHS = {'cola': 24, 'sst2': 32, 'stsb': 40, 'mrpc': 56, 'rte': 80}
FOLDERS = {
  'cola': 'CoLA',
  'sst2': 'SST-2',
  'stsb': 'STS-B',
  'mrpc': 'MRPC',
  'rte': 'RTE',
}
# Peak rates before tuning; everything else is the config's own.
RATES = {
  'adapad': 2e-3,
  'lora': 2e-3,
  'adalora': 2e-3,
  'increlora': 2e-3,
  'sequential': 2e-3,
  'dylora': 2e-3,
  'matryoshka': 2e-3,
  'eva': 2e-3,
  'lora_one': 2e-3,
  'full': 1e-4,
  'head': 2e-3,
}
# Tuning tries each of these times the rate above: the same effort for every method.
FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
# No seeds of the table: what is tuned must not meet what is reported.
TUNING_SEEDS, HOLDOUT = (1000, 1001, 1002), 0.2
# Steps of a run that is timed.
COST_STEPS = 40
# A worker needs a row of its own: a quarter of a batch is not joint.
MOST_WORKERS = 8
# Rates of these are the head's alone.
HEAD_ONLY = ('head',)


@dataclasses.dataclass(frozen=True)
class Spec:
  """One run; runs of equal specs are one run.

  Attributes:
    kind: 'run'; 'tune' for one on a part of the training set; 'cost' for a short one
      that is timed.
    budget: average rank of a module.
    targets: adapted modules, by the names that configs use.
    epochs, steps, batch: length of the run: so many batches, or where `steps` is 0,
      so many passes.
    train_rows, eval_rows: 0 means all.
    rate: peak rate of the adapters (of the head, for the method of that name).
  """

  kind: str
  task: str
  method: str
  seed: int
  budget: int
  targets: str
  epochs: float
  steps: int
  batch: int
  train_rows: int
  eval_rows: int
  rate: float

  def details(self) -> dict[str, Any]:
    """What identifies the run in results.jsonl."""
    return dataclasses.asdict(self)


# Rate, seed and value of a run that searched; the value of one that was not finite is
# None.
Tried = tuple[float, int, float | None]


@dataclasses.dataclass(frozen=True)
class Job:
  """Runs of one method on one task, which one process makes one after the other.

  Attributes:
    tune: runs that search the rate first.
    known: (rate, seed, value) of such runs that are there already.
    runs: what is asked for; at the best rate, where one is searched.
    finished: (rate, seed) of such runs that are there already.
  """

  tune: tuple[Spec, ...]
  known: tuple[Tried, ...]
  runs: tuple[Spec, ...]
  finished: tuple[tuple[float, int], ...] = ()

  @property
  def name(self) -> str:
    """Method, task and budget."""
    one = (*self.tune, *self.runs)[0]
    return f'{one.method} on {one.task}, average rank {one.budget}'


def method_settings(method: str, average: int, modules: int) -> dict[str, Any]:
  """The settings that give a method this average rank over so many modules.

  In one module AdaPaD may go to twice the average, but not beyond `MOST_WORKERS`;
  IncreLoRA, which knows no bound, to four times.
  """
  budget = average * modules
  return {
    'adapad': {'budget': budget, 'r_max': max(min(2 * average, MOST_WORKERS), average)},
    'lora': {'rank': average},
    'adalora': {'budget': budget},
    'increlora': {'budget': budget, 'r_max': 4 * average},
    'sequential': {'rank': average},
    'dylora': {'rank': average},
    'matryoshka': {'rank': average},
    'eva': {'rank': average},
    'lora_one': {'rank': average},
    'full': {},
    'head': {},
  }[method]


def module_count(targets: str) -> int:
  """Modules of MiniLM that these targets stand for."""
  outlined = models.outline(MINILM, Head('classification'))
  config = dataclasses.replace(
    finetune_config({}).adapter, targets=tuple(targets.split('+'))
  )
  found = choose(
    outlined.model, config.choice(), outlined.targets, outlined.head_modules
  )
  return len(found)


def config_of(spec: Spec, data: pathlib.Path) -> FinetuneConfig:
  """The whole config: one evaluation at the end, so nothing is selected on it."""
  config = get_config(f'{spec.task},minilm').to_dict()
  config['method'], config['seed'] = spec.method, spec.seed
  config['data'] |= {
    'path': str(data / FOLDERS[spec.task]),
    'max_length': LENGTHS[spec.task],
    'max_train_rows': spec.train_rows,
    'max_eval_rows': spec.eval_rows,
    'holdout': HOLDOUT if spec.kind == 'tune' else 0.0,
  }
  config['train'] |= {
    'epochs': spec.epochs,
    'steps': spec.steps,
    'batch': spec.batch,
    'eval_batch': 128,
    'evaluations': 1,
    'buckets': (),
  }
  config['adapter'] |= {'targets': tuple(spec.targets.split('+'))}
  group = 'head_optimizer' if spec.method in HEAD_ONLY else 'optimizer'
  config[group] |= {'learning_rate': spec.rate}
  settings = method_settings(spec.method, spec.budget, module_count(spec.targets))
  config[spec.method] |= settings
  return finetune_config(config)


def run_of(spec: Spec, config: FinetuneConfig) -> Run:
  """What sets a run apart from those that train beside it."""
  rate, head_rate = config.optimizer.learning_rate, config.head_optimizer.learning_rate
  if spec.method in HEAD_ONLY:
    return Run(spec.seed, rate, spec.rate)
  return Run(spec.seed, spec.rate, head_rate)
