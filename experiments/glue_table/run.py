"""Every method on the same tasks, data, steps, budget and seeds.

  python -m experiments.glue_table.run --data=FOLDER --tasks=cola,mrpc,rte,stsb,sst2 \\
      --seeds=0,1,2,3,4 --budget=2 --tune
  python -m experiments.glue_table.run --data=FOLDER --cost
  python -m experiments.glue_table.run --table

FOLDER holds the official CoLA, MRPC, RTE, STS-B and SST-2. Skips what `results.jsonl`
holds, so it can be stopped and started at will; `--table` runs nothing. The runs of a
method on a task train at once in one process (`experiments.several_runs`).
"""

import concurrent.futures
import dataclasses
import itertools
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
from experiments.glue_table.settings import (
  FACTORS,
  LENGTHS,
  RATES,
  TUNING_SEEDS,
  Job,
  Spec,
  Tried,
)
from experiments.glue_table.single import best_rate, missing
from experiments.record import record, recorded, side_by_side

HERE = pathlib.Path(__file__).parent
SINGLE = 'experiments.glue_table.single'

_DATA = flags.DEFINE_string('data', '', 'Folder with the official GLUE files.')
_TASKS = flags.DEFINE_list('tasks', list(LENGTHS), 'Tasks.')
_METHODS = flags.DEFINE_list('methods', list(METHODS), 'Methods.')
_SEEDS = flags.DEFINE_list('seeds', ['0', '1', '2', '3', '4'], 'Seeds.')
_BUDGETS = flags.DEFINE_list('budget', ['2'], 'Average ranks; the first is tabled.')
_TARGETS = flags.DEFINE_string('targets', 'all-linear', 'Modules, joined by "+".')
_EPOCHS = flags.DEFINE_float('epochs', 3.0, 'Passes over the training rows.')
_STEPS = flags.DEFINE_list(
  'steps', ['0'], 'Batches, of every task or one number for each; 0: see --epochs.'
)
_BATCH = flags.DEFINE_integer('batch', 32, 'Rows of a batch.')
_TRAIN_ROWS = flags.DEFINE_integer('train_rows', 0, 'Training rows; 0: all.')
_EVAL_ROWS = flags.DEFINE_integer('eval_rows', 0, 'Rows to evaluate on; 0: all.')
_TUNE = flags.DEFINE_bool(
  'tune', False, 'First search rates on a part of the training set.'
)
_TUNING_SEEDS = flags.DEFINE_list(
  'tuning_seeds', list(map(str, TUNING_SEEDS)), 'Of that search.'
)
_FACTORS = flags.DEFINE_list(
  'factors', list(map(str, FACTORS)), 'Rates of that search, times the default.'
)
_COST = flags.DEFINE_bool('cost', False, 'Time a step and note the peak memory.')
_TABLE = flags.DEFINE_bool('table', False, 'Only print and draw what is there.')
_JOBS = flags.DEFINE_integer('jobs', 1, 'Processes side by side; one thread each.')
_TOGETHER = flags.DEFINE_integer('together', 5, 'The most runs of one process.')
_SECONDS = flags.DEFINE_integer('run_seconds', 7200, 'Limit of one process.')


def rows() -> list[dict[str, Any]]:
  """All results so far."""
  return recorded(HERE)


def steps_of(task: str) -> int:
  """Batches of a task; of a pattern for all tasks (''), nothing."""
  given = [int(steps) for steps in _STEPS.value]
  if len(given) == 1:
    return given[0]
  if len(given) != len(_TASKS.value):
    raise app.UsageError(
      f'--steps has {len(given)} numbers for {len(_TASKS.value)} tasks; give one, or'
      ' one for each'
    )
  return dict(zip(_TASKS.value, given, strict=True)).get(task, 0)


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
    steps=steps_of(task),
    batch=_BATCH.value,
    train_rows=_TRAIN_ROWS.value,
    eval_rows=_EVAL_ROWS.value,
    rate=rate,
  )


def found(
  done: list[dict[str, Any]], kind: str, task: str, method: str, budget: int
) -> list[Tried]:
  """The runs of a kind so far, whatever their rates and seeds."""
  like = spec(kind, task, method, 0, budget, 0.0).details()
  del like['rate'], like['seed']
  rows = [row for row in done if like.items() <= row.items()]
  return [(row['rate'], row['seed'], row['value']) for row in rows]


def chosen_rate(
  done: list[dict[str, Any]], task: str, method: str, budget: int
) -> float:
  """The best rate that was searched, or the method's own."""
  known = found(done, 'tune', task, method, budget)
  return best_rate(known) if known else RATES[method]


def jobs(done: list[dict[str, Any]]) -> Iterator[Job]:
  """What is asked for and not done yet."""
  for budget in map(int, _BUDGETS.value):
    for task in _TASKS.value:
      for method in _METHODS.value:
        job = job_of(done, task, method, budget)
        if job.tune or job.runs:
          yield job


def job_of(done: list[dict[str, Any]], task: str, method: str, budget: int) -> Job:
  """All that is missing of one method on one task."""
  known = found(done, 'tune', task, method, budget)
  there = {(rate, seed) for rate, seed, _ in known}
  rates = [factor * RATES[method] for factor in map(float, _FACTORS.value)]
  wanted = itertools.product(rates, map(int, _TUNING_SEEDS.value))
  tune = [
    spec('tune', task, method, seed, budget, rate)
    for rate, seed in wanted
    if _TUNE.value and (rate, seed) not in there
  ]
  rate = chosen_rate(done, task, method, budget)
  kind, seeds = ('cost', _SEEDS.value[:1]) if _COST.value else ('run', _SEEDS.value)
  runs = [spec(kind, task, method, int(seed), budget, rate) for seed in seeds]
  finished = {(rate, seed) for rate, seed, _ in found(done, kind, task, method, budget)}
  job = Job(tuple(tune), tuple(known), tuple(runs), tuple(finished))
  # What a search will leave to do is known only when it has chosen a rate.
  return job if tune else dataclasses.replace(job, runs=missing(job, known))


def execute(job: Job) -> tuple[list[dict[str, Any]], Exception | None]:
  """A job in a fresh process; compilations are shared through a cache on disk.

  Returns:
    The rows that it made, and why it made no more.
  """
  with tempfile.TemporaryDirectory() as folder:
    there = pathlib.Path(folder) / 'job.json'
    result = pathlib.Path(folder) / 'rows.jsonl'
    there.write_text(json.dumps(dataclasses.asdict(job)))
    cache = pathlib.Path(tempfile.gettempdir()) / 'glue_table_compilations'
    extra = {'JAX_COMPILATION_CACHE_DIR': str(cache)}
    if _JOBS.value > 1:
      extra |= side_by_side()
    files = [str(there), _DATA.value, str(result), str(_TOGETHER.value)]
    error = None
    try:
      subprocess.run(
        [sys.executable, '-m', SINGLE, *files],
        check=True,
        timeout=_SECONDS.value,
        stdout=sys.stderr,
        env=os.environ | extra,
      )
    except subprocess.SubprocessError as stopped:
      error = stopped
    lines = result.read_text().splitlines() if result.is_file() else []
    return [json.loads(line) for line in lines], error


def check(values: list[str], choices: Any, what: str) -> None:
  for value in values:
    if value not in choices:
      raise app.UsageError(f'unknown {what} {value!r}{did_you_mean(value, choices)}')


def main(argv: list[str]) -> None:
  """Runs what is missing, then prints and draws."""
  check(_TASKS.value, LENGTHS, 'task')
  check(_METHODS.value, METHODS, 'method')
  failed = 0
  if not _TABLE.value:
    if not _DATA.value:
      raise app.UsageError('--data=FOLDER with the official GLUE files is needed')
    failed = run_missing()
  if not _COST.value:
    report()
  if failed:
    sys.exit(f'{failed} jobs failed; the same command tries them again')


def run_missing() -> int:
  """Runs what is missing; says how many jobs failed, which do not stop the others."""
  failed = 0
  with concurrent.futures.ThreadPoolExecutor(_JOBS.value) as pool:
    running = {pool.submit(execute, job): job for job in jobs(rows())}
    for future in concurrent.futures.as_completed(running):
      made, error = future.result()
      if error:
        one = running[future].runs[0]
        print(f'# {one.method} on {one.task} failed: {error}', file=sys.stderr)
        failed += 1
      for row in made:
        value = row.pop('value')
        value = None if value is None else round(value, 5)
        record(HERE, 'glue_table', value, row['metric'], **row)
  return failed


def report() -> None:
  """Prints the tables of the first budget and of all, and draws both figures."""
  from experiments.glue_table import figures, summary

  like = spec('run', '', '', 0, int(_BUDGETS.value[0]), 0.0).details()
  for free in ('kind', 'task', 'method', 'seed', 'rate', 'budget', 'steps'):
    del like[free]
  done = rows()
  rate_of = lambda row: chosen_rate(done, row['task'], row['method'], row['budget'])
  alike = [
    row
    for row in done
    if like.items() <= row.items() and row['steps'] == steps_of(row['task'])
  ]
  # A rate that was searched later replaces the runs at another.
  mine = [row for row in alike if row['kind'] == 'run' and row['rate'] == rate_of(row)]
  costs = [row for row in alike if row['kind'] == 'cost']
  shown = [row for row in mine if row['budget'] == int(_BUDGETS.value[0])]
  if not shown:
    print('no such runs yet')
    return
  tasks = _tasks_of(shown)
  print(summary.main_table(shown, costs, _METHODS.value, tasks))
  print()
  print(summary.difference_table(shown, _METHODS.value, tasks))
  if len(_BUDGETS.value) > 1:
    asked = [row for row in mine if str(row['budget']) in _BUDGETS.value]
    for table in (summary.budget_table, summary.growth_table):
      print(f'\n{table(asked, _METHODS.value, _tasks_of(asked))}')
  figures.draw_truncation(shown, _METHODS.value, tasks, HERE)
  best = figures.draw_front(mine, _METHODS.value, tasks, HERE)
  print(f'\non the front of metric against parameters: {", ".join(best)}')


def _tasks_of(shown: list[dict[str, Any]]) -> list[str]:
  return [task for task in _TASKS.value if any(r['task'] == task for r in shown)]


if __name__ == '__main__':
  app.run(main)
