"""Every method on the same tasks, data, steps, budget and seeds.

  python -m experiments.glue_table.run --data=FOLDER --tasks=cola,mrpc,rte,stsb,sst2 \\
      --seeds=0,1,2,3,4 --budget=2
  python -m experiments.glue_table.run --data=FOLDER --tune
  python -m experiments.glue_table.run --data=FOLDER --cost
  python -m experiments.glue_table.run --table

FOLDER holds the official CoLA, MRPC, RTE, STS-B and SST-2. Skips what `results.jsonl`
holds, so it can be stopped and started at will; `--table` runs nothing. The runs of a
method on a task train at once in one process (`experiments.several_runs`).
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

from absl import app, flags

from adapad_jax.methods import METHODS
from adapad_jax.settings import did_you_mean
from experiments.glue_table.settings import FACTORS, LENGTHS, RATES, TUNING_SEED, Spec
from experiments.record import ONE_THREAD, record, recorded

HERE = pathlib.Path(__file__).parent
SINGLE = 'experiments.glue_table.single'

_DATA = flags.DEFINE_string('data', '', 'Folder with the official GLUE files.')
_TASKS = flags.DEFINE_list('tasks', list(LENGTHS), 'Tasks.')
_METHODS = flags.DEFINE_list('methods', list(METHODS), 'Methods.')
_SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2', '3', '4'], 'Seeds.')
_BUDGETS = flags.DEFINE_list('budget', ['2'], 'Average ranks; the first is tabled.')
_TARGETS = flags.DEFINE_string('targets', 'all-linear', 'Modules, joined by "+".')
_EPOCHS = flags.DEFINE_float('epochs', 3.0, 'Passes over the training rows.')
_STEPS = flags.DEFINE_integer('steps', 0, 'Batches; 0: what --epochs says.')
_BATCH = flags.DEFINE_integer('batch', 32, 'Rows of a batch.')
_TRAIN_ROWS = flags.DEFINE_integer('train_rows', 0, 'Training rows; 0: all.')
_EVAL_ROWS = flags.DEFINE_integer('eval_rows', 0, 'Rows to evaluate on; 0: all.')
_TUNE = flags.DEFINE_bool('tune', False, 'Search rates on a part of the training set.')
_COST = flags.DEFINE_bool('cost', False, 'Time a step and note the peak memory.')
_TABLE = flags.DEFINE_bool('table', False, 'Only print and draw what is there.')
_JOBS = flags.DEFINE_integer('jobs', 1, 'Processes side by side; one thread each.')
_TOGETHER = flags.DEFINE_integer('together', 5, 'The most runs of one process.')
_SECONDS = flags.DEFINE_integer('run_seconds', 7200, 'Limit of one process.')


def rows() -> list[dict[str, Any]]:
  """All results so far."""
  return recorded(HERE)


def spec(
  kind: str, task: str, method: str, seed: int, budget: int, rate: float
) -> Spec:
  return Spec(
    kind=kind,
    task=task,
    method=method,
    seed=seed,
    budget=budget,
    targets=_TARGETS.value,
    epochs=_EPOCHS.value,
    steps=_STEPS.value,
    batch=_BATCH.value,
    train_rows=_TRAIN_ROWS.value,
    eval_rows=_EVAL_ROWS.value,
    rate=rate,
  )


def tuned_rate(
  done: list[dict[str, Any]], task: str, method: str, budget: int
) -> float:
  """The best rate of the tuning runs; without any, the default."""
  like = spec('tune', task, method, TUNING_SEED, budget, 0.0).details()
  del like['rate']
  tried = [row for row in done if like.items() <= row.items()]
  tried = [row for row in tried if row['value'] is not None]
  return max(tried, key=lambda row: row['value'])['rate'] if tried else RATES[method]


def wanted(done: list[dict[str, Any]]) -> Iterator[Spec]:
  """All runs that were asked for, those of one task and method together."""
  kind = 'tune' if _TUNE.value else 'cost' if _COST.value else 'run'
  for budget in map(int, _BUDGETS.value):
    for task in _TASKS.value:
      for method in _METHODS.value:
        if kind == 'tune':
          for factor in FACTORS:
            rate = factor * RATES[method]
            yield spec(kind, task, method, TUNING_SEED, budget, rate)
          continue
        rate = tuned_rate(done, task, method, budget)
        for seed in map(int, _SEEDS.value if kind == 'run' else _SEEDS.value[:1]):
          yield spec(kind, task, method, seed, budget, rate)


def groups(specs: Iterable[Spec]) -> list[list[Spec]]:
  """Runs that differ in seed and rate alone, at most `--together` at once."""
  together: dict[Spec, list[Spec]] = {}
  for one in specs:
    alike = dataclasses.replace(one, seed=-1, rate=0.0)
    together.setdefault(alike, []).append(one)
  size = _TOGETHER.value
  return [g[i : i + size] for g in together.values() for i in range(0, len(g), size)]


def execute(group: list[Spec]) -> list[dict[str, Any]]:
  """A group in a fresh process; compilations are shared through a cache on disk."""
  with tempfile.TemporaryDirectory() as folder:
    there = pathlib.Path(folder) / 'specs.json'
    result = pathlib.Path(folder) / 'rows.json'
    there.write_text(json.dumps([one.details() for one in group]))
    cache = pathlib.Path(tempfile.gettempdir()) / 'glue_table_compilations'
    extra = {'JAX_COMPILATION_CACHE_DIR': str(cache)}
    if _JOBS.value > 1:
      extra['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {ONE_THREAD}'
      extra['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'  # They share an accelerator.
    subprocess.run(
      [sys.executable, '-m', SINGLE, str(there), _DATA.value, str(result)],
      check=True,
      timeout=_SECONDS.value,
      stdout=sys.stderr,
      env=os.environ | extra,
    )
    return json.loads(result.read_text())


def check(values: list[str], choices: Any, what: str) -> None:
  for value in values:
    if value not in choices:
      raise app.UsageError(f'unknown {what} {value!r}{did_you_mean(value, choices)}')


def main(argv: list[str]) -> None:
  """Runs what is missing, then prints and draws."""
  check(_TASKS.value, LENGTHS, 'task')
  check(_METHODS.value, METHODS, 'method')
  if not _TABLE.value:
    if not _DATA.value:
      raise app.UsageError('--data=FOLDER with the official GLUE files is needed')
    have = rows()
    missing = [
      one
      for one in wanted(have)
      if not any(one.details().items() <= row.items() for row in have)
    ]
    with concurrent.futures.ThreadPoolExecutor(_JOBS.value) as pool:
      running = {pool.submit(execute, group): group for group in groups(missing)}
      for future in concurrent.futures.as_completed(running):
        for one, row in zip(running[future], future.result(), strict=True):
          value = row.pop('value')
          value = None if value is None else round(value, 5)
          record(HERE, 'glue_table', value, row['metric'], **one.details(), **row)
  if not (_TUNE.value or _COST.value):
    report()


def report() -> None:
  """Prints both tables of the first budget and draws both figures."""
  from experiments.glue_table import figures, summary

  like = spec('run', '', '', 0, int(_BUDGETS.value[0]), 0.0).details()
  for free in ('kind', 'task', 'method', 'seed', 'rate', 'budget'):
    del like[free]
  alike = [row for row in rows() if like.items() <= row.items()]
  mine = [row for row in alike if row['kind'] == 'run']
  costs = [row for row in alike if row['kind'] == 'cost']
  shown = [row for row in mine if row['budget'] == int(_BUDGETS.value[0])]
  if not shown:
    print('no such runs yet')
    return
  tasks = [task for task in _TASKS.value if any(r['task'] == task for r in shown)]
  print(summary.main_table(shown, costs, _METHODS.value, tasks))
  print()
  print(summary.difference_table(shown, _METHODS.value, tasks))
  figures.draw_truncation(shown, _METHODS.value, tasks, HERE / 'truncation.png')
  best = figures.draw_front(mine, tasks, HERE / 'front.png')
  print(f'\non the front of metric against parameters: {", ".join(best)}')


if __name__ == '__main__':
  app.run(main)
