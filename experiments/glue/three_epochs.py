"""MiniLM on whole GLUE tasks for three epochs: the recipe of configs/glue.py, by seeds.

  python -m experiments.glue.three_epochs --data=FOLDER --tasks=cola,stsb

is `python -m adapad_jax.main --config=configs/glue.py:cola,minilm` for every task,
method and seed, FOLDER/CoLA and FOLDER/STS-B being the official files. `--together=5`
trains five seeds in one program (`experiments.several_runs`), which pays on an
accelerator.
"""

import dataclasses
import itertools
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, Literal

import jax

from adapad_jax.methods import METHODS
from adapad_jax.training import FinetuneConfig, finetune_config, train
from configs.glue import get_config
from experiments import tables
from experiments.glue.settings import FOLDERS
from experiments.harness import Experiment, Run, main, no_key
from experiments.results import Row, matching, row
from experiments.several_runs import runs_of, train_runs


@dataclasses.dataclass(frozen=True)
class Options:
  """What is run.

  Attributes:
    data: folder with the official GLUE files.
    tasks, methods, seeds: what is combined.
    rate: peak rate; 0: the recipe's.
    together: seeds that train in one program, every batch at its full length.
  """

  data: str = ''
  tasks: tuple[Literal[*FOLDERS], ...] = ('cola', 'stsb')
  methods: tuple[Literal[*METHODS], ...] = ('adapad', 'lora')
  seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
  rate: float = 0.0
  together: int = 1


@dataclasses.dataclass(frozen=True)
class Case:
  """The seeds of a method on a task that train in one program."""

  task: str
  method: str
  rate: float
  seeds: tuple[int, ...]


def cases(run: Run) -> list[Case]:
  """What is missing, a seed of everything before the next, so that a part is fair."""
  options, done, found = run.options, run.done(), []
  for task, method in itertools.product(options.tasks, options.methods):
    rate = config_of(options, task, method, 0).optimizer.learning_rate
    like = {'task': task, 'method': method, 'rate': rate}
    there = {one['seed'] for one in matching(done, like)}
    lacking = tuple(seed for seed in options.seeds if seed not in there)
    size = options.together
    parts = [lacking[i : i + size] for i in range(0, len(lacking), size)]
    found += [Case(**like, seeds=part) for part in parts]
  return sorted(found, key=lambda case: options.seeds.index(case.seeds[0]))


def config_of(options: Options, task: str, method: str, seed: int) -> FinetuneConfig:
  """The recipe."""
  config = get_config(f'{task},minilm').to_dict()
  config |= {'method': method, 'seed': seed}
  config['data'] |= {'path': str(pathlib.Path(options.data) / FOLDERS[task])}
  if options.rate:
    config['optimizer'] |= {'learning_rate': options.rate}
  return finetune_config(config)


def measure(run: Run, case: Case) -> Iterator[Row]:
  """The last state of every seed counts, whatever the metric says.

  Raises:
    FloatingPointError: if a run was not finite.
  """
  config = config_of(run.options, case.task, case.method, case.seeds[0])
  about = {'task': case.task, 'method': case.method, 'rate': case.rate}
  if len(case.seeds) == 1:
    with tempfile.TemporaryDirectory() as workdir:
      found = train(config, pathlib.Path(workdir))
    metrics, prefixes = found['last']['metrics'], found['prefixes']
    size = found['adapter_parameters']
    about |= {'seed': case.seeds[0]}
    yield made(found['metric'], metrics, prefixes, size, **about)
    return
  trained = train_runs(config, runs_of(config, case.seeds))
  if None in trained.outcomes:
    raise FloatingPointError(f'not finite: {trained.outcomes}')
  for seed, one in zip(case.seeds, trained.outcomes, strict=True):
    about |= {'seed': seed}
    found = one.metrics, one.prefixes, one.adapter_parameters
    yield made(trained.metric, *found, **about)


def made(
  name: str,
  metrics: dict[str, float],
  prefixes: list[float | None],
  parameters: int,
  **about: Any,
) -> Row:
  return row(
    name,
    round(metrics[name], 5),
    '',
    **about,
    metrics={k: round(v, 5) for k, v in metrics.items()},
    prefixes=[None if x is None else round(x, 5) for x in prefixes],
    adapter_parameters=parameters,
    device=jax.devices()[0].device_kind,
  )


def table(run: Run) -> str:
  """Mean and standard deviation over seeds, in points."""
  rows, lines = run.results.rows(), []
  keys = ('task', 'method', 'rate')
  for key in dict.fromkeys(tuple(one[k] for k in keys) for one in rows):
    own = matching(rows, dict(zip(keys, key, strict=True)))
    values = [100 * one['value'] for one in own]
    shown = f'{tables.mean_sd(values)} ({len(values)} seeds)'
    lines.append([*map(str, key), own[0]['figure'], shown])
  return tables.markdown(['task', 'method', 'rate', 'metric', 'last, points'], lines)


EXPERIMENT = Experiment(
  'glue.three_epochs',
  Options(),
  measure,
  cases,
  no_key,
  table,
  needs=('data',),
  own_process=True,
)

if __name__ == '__main__':
  main(EXPERIMENT)
