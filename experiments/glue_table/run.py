"""Every method on the same tasks, data, steps, budget and seeds.

  python -m experiments.glue_table.run --data=FOLDER --tasks=cola,mrpc,rte,stsb,sst2 \\
      --seeds=0,1,2,3,4 --budget=2
  python -m experiments.glue_table.run --data=FOLDER --tune
  python -m experiments.glue_table.run --table

FOLDER holds the official CoLA, MRPC, RTE, STS-B and SST-2. Skips what `results.jsonl`
holds, so it can be stopped and started at will; `--table` runs nothing.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from absl import app, flags

from adapad_jax.methods import METHODS
from adapad_jax.settings import did_you_mean
from experiments.glue_table.settings import FACTORS, LENGTHS, RATES, TUNING_SEED, Spec
from experiments.record import FILE, record

HERE = pathlib.Path(__file__).parent

_DATA = flags.DEFINE_string('data', '', 'Folder with the official GLUE files.')
_TASKS = flags.DEFINE_list('tasks', list(LENGTHS), 'Tasks.')
_METHODS = flags.DEFINE_list('methods', list(METHODS), 'Methods.')
_SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2', '3', '4'], 'Seeds.')
_BUDGETS = flags.DEFINE_list('budget', ['2'], 'Average ranks; the first is tabled.')
_TARGETS = flags.DEFINE_string('targets', 'all-linear', 'Modules, joined by "+".')
_STEPS = flags.DEFINE_integer('steps', 120, 'Batches.')
_BATCH = flags.DEFINE_integer('batch', 32, 'Rows of a batch.')
_TRAIN_ROWS = flags.DEFINE_integer('train_rows', 0, 'Training rows; 0: all.')
_EVAL_ROWS = flags.DEFINE_integer('eval_rows', 600, 'Rows to evaluate on; 0: all.')
_TUNE = flags.DEFINE_bool('tune', False, 'Search rates on a part of the training set.')
_TABLE = flags.DEFINE_bool('table', False, 'Only print and draw what is there.')
_SECONDS = flags.DEFINE_integer('run_seconds', 1800, 'Limit of one run.')


def rows() -> list[dict[str, Any]]:
  """All results so far."""
  path = HERE / FILE
  lines = path.read_text().splitlines() if path.is_file() else []
  return [json.loads(line) for line in lines]


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
  return max(tried, key=lambda row: row['value'])['rate'] if tried else RATES[method]


def wanted(done: list[dict[str, Any]]) -> Iterator[Spec]:
  """All runs that were asked for, seed by seed, so that a part is a fair table too."""
  budgets = [int(budget) for budget in _BUDGETS.value]
  if _TUNE.value:
    for budget in budgets:
      for task in _TASKS.value:
        for method in _METHODS.value:
          for factor in FACTORS:
            rate = factor * RATES[method]
            yield spec('tune', task, method, TUNING_SEED, budget, rate)
    return
  for seed in map(int, _SEEDS.value):
    for budget in budgets:
      for task in _TASKS.value:
        for method in _METHODS.value:
          rate = tuned_rate(done, task, method, budget)
          yield spec('run', task, method, seed, budget, rate)


def execute(one: Spec) -> dict[str, Any]:
  """One run in a fresh process; compilations are shared through a cache on disk."""
  with tempfile.TemporaryDirectory() as folder:
    there, result = (
      pathlib.Path(folder) / 'spec.json',
      pathlib.Path(folder) / 'row.json',
    )
    there.write_text(json.dumps(one.details()))
    cache = pathlib.Path(tempfile.gettempdir()) / 'glue_table_compilations'
    command = [sys.executable, '-m', 'experiments.glue_table.single']
    subprocess.run(
      [*command, str(there), _DATA.value, str(result)],
      check=True,
      timeout=_SECONDS.value,
      stdout=sys.stderr,
      env=os.environ | {'JAX_COMPILATION_CACHE_DIR': str(cache)},
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
    for one in wanted(rows()):
      if any(one.details().items() <= row.items() for row in rows()):
        continue
      row = execute(one)
      value = round(row.pop('value'), 5)
      record(HERE, 'glue_table', value, row['metric'], **one.details(), **row)
  if not _TUNE.value:
    report()


def report() -> None:
  """Prints both tables of the first budget and draws both figures."""
  from experiments.glue_table import figures, summary

  like = spec('run', '', '', 0, int(_BUDGETS.value[0]), 0.0).details()
  for free in ('task', 'method', 'seed', 'rate', 'budget'):
    del like[free]
  mine = [row for row in rows() if like.items() <= row.items()]
  shown = [row for row in mine if row['budget'] == int(_BUDGETS.value[0])]
  if not shown:
    print('no such runs yet')
    return
  tasks = [task for task in _TASKS.value if any(r['task'] == task for r in shown)]
  print(summary.main_table(shown, _METHODS.value, tasks))
  print()
  print(summary.difference_table(shown, _METHODS.value, tasks))
  figures.draw_truncation(shown, _METHODS.value, tasks, HERE / 'truncation.png')
  best = figures.draw_front(mine, tasks, HERE / 'front.png')
  print(f'\non the front of metric against parameters: {", ".join(best)}')


if __name__ == '__main__':
  app.run(main)
