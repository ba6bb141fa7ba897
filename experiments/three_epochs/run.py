"""MiniLM on whole GLUE tasks for three epochs: the recipe of configs/glue.py, by seeds.

  python -m experiments.three_epochs.run --data=FOLDER --tasks=cola,stsb

is `python -m adapad_jax.main --config=configs/glue.py:cola,minilm` for every task,
method and seed, FOLDER/CoLA and FOLDER/STS-B being the official files. `--together`
trains the seeds in one program (`experiments.several_runs`), which pays on an
accelerator. Skips what `results.jsonl` already holds, so it can be stopped and started
at will.
"""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np
from absl import app, flags

from adapad_jax.training import FinetuneConfig, finetune_config, train
from configs.glue import get_config
from experiments.glue_table.settings import FOLDERS
from experiments.record import record, recorded, side_by_side
from experiments.several_runs import runs_of, train_runs

HERE = pathlib.Path(__file__).parent

_DATA = flags.DEFINE_string('data', '', 'Folder with the official GLUE files.')
_TASKS = flags.DEFINE_list('tasks', ['cola', 'stsb'], f'Of {list(FOLDERS)}.')
_METHODS = flags.DEFINE_list('methods', ['adapad', 'lora'], 'Methods.')
_SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2', '3', '4'], 'Seeds.')
_JOBS = flags.DEFINE_integer('jobs', 2, 'Processes side by side; one thread each.')
_RATE = flags.DEFINE_float('rate', 0.0, "Peak rate; 0: the recipe's.")
_TOGETHER = flags.DEFINE_bool('together', False, 'All seeds in one program.')
_TABLE = flags.DEFINE_bool('table', False, 'Only print what is there.')


def config_of(task: str, method: str, seed: int) -> FinetuneConfig:
  """The recipe."""
  config = get_config(f'{task},minilm').to_dict()
  config |= {'method': method, 'seed': seed}
  config['data'] |= {'path': str(pathlib.Path(_DATA.value) / FOLDERS[task])}
  if _RATE.value:
    config['optimizer'] |= {'learning_rate': _RATE.value}
  return finetune_config(config)


def run(config: FinetuneConfig, seeds: list[int]) -> list[dict[str, Any]]:
  """One seed after the other; the last state counts, whatever the metric says."""
  rows = []
  for seed in seeds:
    with tempfile.TemporaryDirectory() as workdir:
      config = dataclasses.replace(config, seed=seed)
      result = train(config, pathlib.Path(workdir))
    rows.append(
      _row(
        result['metric'],
        result['last']['metrics'],
        result['prefixes'],
        result['adapter_parameters'],
      )
    )
  return rows


def run_together(config: FinetuneConfig, seeds: list[int]) -> list[dict[str, Any]]:
  """The same with all seeds at once, every batch at its full length.

  Raises:
    FloatingPointError: if a run was not finite.
  """
  trained = train_runs(config, runs_of(config, seeds))
  if None in trained.outcomes:
    raise FloatingPointError(f'not finite: {trained.outcomes}')
  return [
    _row(trained.metric, one.metrics, one.prefixes, one.adapter_parameters)
    for one in trained.outcomes
  ]


def _row(
  name: str, metrics: dict[str, float], prefixes: list[float | None], parameters: int
) -> dict[str, Any]:
  return {
    'figure': name,
    'value': round(metrics[name], 5),
    'metrics': {k: round(v, 5) for k, v in metrics.items()},
    'prefixes': [None if x is None else round(x, 5) for x in prefixes],
    'adapter_parameters': parameters,
    'device': jax.devices()[0].device_kind,
  }


def results() -> list[dict[str, Any]]:
  """All rows so far."""
  return recorded(HERE)


def jobs() -> list[tuple[str, str, list[int]]]:
  """(task, method, seeds) that are missing; by seed, so that a part is fair too."""
  rate_of = lambda task: config_of(task, 'adapad', 0).optimizer.learning_rate
  rates = {task: rate_of(task) for task in _TASKS.value}
  done = {(r['task'], r['method'], r['seed'], r['rate']) for r in results()}
  wanted = [
    (task, method, int(seed))
    for seed in _SEEDS.value
    for method in _METHODS.value
    for task in _TASKS.value
    if (task, method, int(seed), rates[task]) not in done
  ]
  if not _TOGETHER.value:
    return [(task, method, [seed]) for task, method, seed in wanted]
  seeds: dict[tuple[str, str], list[int]] = {}
  for task, method, seed in wanted:
    seeds.setdefault((task, method), []).append(seed)
  return [(*pair, own) for pair, own in seeds.items()]


def run_missing() -> None:
  """Every job in a process of its own."""
  os.environ.update(side_by_side())
  fresh = multiprocessing.get_context('spawn')
  execute = run_together if _TOGETHER.value else run
  with concurrent.futures.ProcessPoolExecutor(
    _JOBS.value, fresh, max_tasks_per_child=1
  ) as pool:
    running = {}
    for task, method, seeds in jobs():
      config = config_of(task, method, seeds[0])
      running[pool.submit(execute, config, seeds)] = task, method, seeds, config
    for future in concurrent.futures.as_completed(running):
      task, method, seeds, config = running[future]
      for seed, row in zip(seeds, future.result(), strict=True):
        about = {'task': task, 'method': method, 'seed': seed}
        about['rate'] = config.optimizer.learning_rate
        record(HERE, row.pop('figure'), row.pop('value'), '', **about, **row)


def table() -> str:
  """Mean and standard deviation over seeds, in points."""
  rows = results()
  lines = ['| task | method | rate | metric | last, points |', '|---|---|---|---|---|']
  keys = ('task', 'method', 'rate')
  for key in dict.fromkeys(tuple(row[k] for k in keys) for row in rows):
    own = [row for row in rows if tuple(row[k] for k in keys) == key]
    values = 100 * np.array([row['value'] for row in own])
    spread = f' ± {values.std(ddof=1):.1f}' if len(values) > 1 else ''
    shown = f'{values.mean():.1f}{spread} ({len(values)} seeds)'
    cells = [*map(str, key), own[0]['figure'], shown]
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def main(argv: list[str]) -> None:
  """Runs what is missing, then prints the table."""
  if not _TABLE.value:
    run_missing()
  print(table())


if __name__ == '__main__':
  app.run(main)
