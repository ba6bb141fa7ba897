"""MiniLM on whole GLUE tasks for three epochs: the recipe of configs/glue.py, by seeds.

  python -m experiments.three_epochs.run --data=FOLDER --tasks=cola,stsb

is `python -m adapad_jax.main --config=configs/glue.py:cola,minilm` for every task,
method and seed, FOLDER/CoLA and FOLDER/STS-B being the official files. The seeds train
together (`experiments.several_runs`), every batch at the full length. Skips what
`results.jsonl` already holds, so it can be stopped and started at will.
"""

import concurrent.futures
import multiprocessing
import os
import pathlib
from typing import Any

import jax
import numpy as np
from absl import app, flags

from adapad_jax.training import finetune_config
from configs.glue import get_config
from experiments.glue_table.settings import FOLDERS
from experiments.record import ONE_THREAD, record, recorded
from experiments.several_runs import runs_of, train_runs

HERE = pathlib.Path(__file__).parent

_DATA = flags.DEFINE_string('data', '', 'Folder with the official GLUE files.')
_TASKS = flags.DEFINE_list('tasks', ['cola', 'stsb'], f'Of {list(FOLDERS)}.')
_METHODS = flags.DEFINE_list('methods', ['adapad', 'lora'], 'Methods.')
_SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2', '3', '4'], 'Seeds.')
_JOBS = flags.DEFINE_integer('jobs', 2, 'Processes side by side; one thread each.')
_TABLE = flags.DEFINE_bool('table', False, 'Only print what is there.')


def run(task: str, method: str, seeds: list[int], data: str) -> list[dict[str, Any]]:
  """The recipe with several seeds; the last state counts."""
  config = get_config(f'{task},minilm').to_dict()
  config |= {'method': method}
  config['data'] |= {'path': str(pathlib.Path(data) / FOLDERS[task])}
  config = finetune_config(config)
  trained = train_runs(config, runs_of(config, seeds))
  rows = []
  for seed, one in zip(seeds, trained.outcomes, strict=True):
    if one is None:
      raise FloatingPointError(f'{method} on {task} with seed {seed} was not finite')
    rows.append(
      {
        'figure': trained.metric,
        'value': round(one.metrics[trained.metric], 5),
        'metrics': {k: round(v, 5) for k, v in one.metrics.items()},
        'prefixes': [round(x, 5) for x in one.prefixes],
        'rank_M': one.rank_M,
        'adapter_parameters': one.adapter_parameters,
        'rounds': trained.steps,
        'device': jax.devices()[0].device_kind,
      }
    )
  return rows


def results() -> list[dict[str, Any]]:
  """All rows so far."""
  return recorded(HERE)


def run_missing() -> None:
  """The seeds that a task and method lack, all at once."""
  done = {(row['task'], row['method'], row['seed']) for row in results()}
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {ONE_THREAD}'
  os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'  # They share an accelerator.
  fresh = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(
    _JOBS.value, fresh, max_tasks_per_child=1
  ) as pool:
    running = {}
    for method in _METHODS.value:
      for task in _TASKS.value:
        seeds = [s for s in map(int, _SEEDS.value) if (task, method, s) not in done]
        if seeds:
          job = pool.submit(run, task, method, seeds, _DATA.value)
          running[job] = task, method, seeds
    for future in concurrent.futures.as_completed(running):
      task, method, seeds = running[future]
      for seed, row in zip(seeds, future.result(), strict=True):
        about = {'task': task, 'method': method, 'seed': seed}
        record(HERE, row.pop('figure'), row.pop('value'), '', **about, **row)


def table() -> str:
  """Mean and standard deviation over seeds, in points."""
  rows = results()
  lines = ['| task | method | metric | last, points |', '|---|---|---|---|']
  for task, method in dict.fromkeys((row['task'], row['method']) for row in rows):
    own = [row for row in rows if (row['task'], row['method']) == (task, method)]
    values = 100 * np.array([row['value'] for row in own])
    spread = f' ± {values.std(ddof=1):.1f}' if len(values) > 1 else ''
    shown = f'{values.mean():.1f}{spread} ({len(values)} seeds)'
    lines.append(f'| {task} | {method} | {own[0]["figure"]} | {shown} |')
  return '\n'.join(lines)


def main(argv: list[str]) -> None:
  """Runs what is missing, then prints the table."""
  if not _TABLE.value:
    run_missing()
  print(table())


if __name__ == '__main__':
  app.run(main)
