"""MiniLM on whole GLUE tasks for three epochs: the recipe of configs/glue.py, by seeds.

  python -m experiments.three_epochs.run --data=FOLDER --tasks=cola,stsb

is `python -m adapad_jax.main --config=configs/glue.py:cola,minilm` for every task,
method and seed, FOLDER/CoLA and FOLDER/STS-B being the official files. Skips what
`results.jsonl` already holds, so it can be stopped and started at will.
"""

import concurrent.futures
import multiprocessing
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
from absl import app, flags

from adapad_jax.training import finetune_config, train
from configs.glue import get_config
from experiments.glue_table.settings import FOLDERS
from experiments.record import ONE_THREAD, record, recorded

HERE = pathlib.Path(__file__).parent

_DATA = flags.DEFINE_string('data', '', 'Folder with the official GLUE files.')
_TASKS = flags.DEFINE_list('tasks', ['cola', 'stsb'], f'Of {list(FOLDERS)}.')
_METHODS = flags.DEFINE_list('methods', ['adapad', 'lora'], 'Methods.')
_SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2', '3', '4'], 'Seeds.')
_JOBS = flags.DEFINE_integer('jobs', 2, 'Processes side by side; one thread each.')
_TABLE = flags.DEFINE_bool('table', False, 'Only print what is there.')


def run(task: str, method: str, seed: int, data: str) -> dict[str, Any]:
  """One run of the recipe; its last state counts, whatever the metric says."""
  config = get_config(f'{task},minilm').to_dict()
  config |= {'method': method, 'seed': seed}
  config['data'] |= {'path': str(pathlib.Path(data) / FOLDERS[task])}
  with tempfile.TemporaryDirectory() as workdir:
    result = train(finetune_config(config), pathlib.Path(workdir))
  name = result['metric']
  return {
    'figure': name,
    'value': round(result['last']['metrics'][name], 5),
    'best': round(result['best']['metrics'][name], 5),
    'baseline': result['baseline']['metrics'][name],
    'metrics': {k: round(v, 5) for k, v in result['last']['metrics'].items()},
    'prefixes': [round(x, 5) for x in result['prefixes']],
    'rank_total': result['rank_total'],
    'adapter_parameters': result['adapter_parameters'],
    'rounds': result['rounds'],
  }


def results() -> list[dict[str, Any]]:
  """All rows so far."""
  return recorded(HERE)


def run_missing() -> None:
  """Seed by seed, so that a part is a fair comparison too."""
  done = {(row['task'], row['method'], row['seed']) for row in results()}
  wanted = [
    (task, method, int(seed))
    for seed in _SEEDS.value
    for method in _METHODS.value
    for task in _TASKS.value
  ]
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {ONE_THREAD}'
  fresh = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(
    _JOBS.value, fresh, max_tasks_per_child=1
  ) as pool:
    running = {
      pool.submit(run, *one, _DATA.value): one for one in wanted if one not in done
    }
    for future in concurrent.futures.as_completed(running):
      task, method, seed = running[future]
      row = future.result()
      about = {'task': task, 'method': method, 'seed': seed, 'jobs': _JOBS.value}
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
