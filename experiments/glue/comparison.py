"""Every method on the same tasks, data, steps, budget and seeds.

  python -m experiments.glue.comparison --data=FOLDER --tune \\
      --tasks=sst2,cola,stsb,mrpc,rte --steps=1000,802,539,344,234
  python -m experiments.glue.comparison --data=FOLDER --cost
  python -m experiments.glue.comparison --table

FOLDER holds the official CoLA, MRPC, RTE, STS-B and SST-2. The runs of a method on a
task are one case, which trains several at once (`experiments.several_runs`); it goes
on from the runs that are recorded.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Literal

from adapad_jax.compilation import keep_compiled
from adapad_jax.methods import METHODS
from experiments.glue import every_rank, summary
from experiments.glue.runs import best_rate, execute, missing
from experiments.glue.settings import (
  FACTORS,
  LENGTHS,
  RATES,
  TUNING_SEEDS,
  Job,
  Spec,
  Tried,
)
from experiments.harness import Experiment, Run, main, no_key
from experiments.results import Row, matching
from experiments.tables import markdown


@dataclasses.dataclass(frozen=True)
class Options:
  """What is run, and what is shown.

  Attributes:
    data: folder with the official GLUE files.
    tasks, methods, seeds: what is combined.
    budget: average ranks; the first one has the main table.
    targets: modules, joined by "+".
    epochs: passes over the training rows, where `steps` is 0.
    steps: batches, of every task or one number for each.
    batch: rows of a batch.
    train_rows, eval_rows: rows to train and to evaluate on; 0: all.
    tune: first search rates on a part of the training set.
    tuning_seeds, factors: of that search: seeds, and rates as multiples of the default.
    cost: time a step and note the peak of memory instead.
    together: the most runs of one process at once.
  """

  data: str = ''
  tasks: tuple[Literal[*LENGTHS], ...] = tuple(LENGTHS)
  methods: tuple[Literal[*METHODS], ...] = tuple(METHODS)
  seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
  budget: tuple[int, ...] = (2,)
  targets: str = 'all-linear'
  epochs: float = 3.0
  steps: tuple[int, ...] = (0,)
  batch: int = 32
  train_rows: int = 0
  eval_rows: int = 0
  tune: bool = False
  tuning_seeds: tuple[int, ...] = TUNING_SEEDS
  factors: tuple[float, ...] = FACTORS
  cost: bool = False
  together: int = 5


def steps_of(options: Options, task: str) -> int:
  """Batches of a task; of a pattern for all tasks (''), nothing.

  Raises:
    ValueError: if there are as many numbers neither as tasks nor one.
  """
  given, tasks = options.steps, options.tasks
  if len(given) == 1:
    return given[0]
  if len(given) != len(tasks):
    raise ValueError(
      f'--steps has {len(given)} numbers for {len(tasks)} tasks; give one, or one for'
      ' each'
    )
  return dict(zip(tasks, given, strict=True)).get(task, 0)


def spec(
  options: Options,
  kind: str,
  task: str,
  method: str,
  seed: int,
  budget: int,
  rate: float,
) -> Spec:
  return Spec(
    kind=kind,
    task=task,
    method=method,
    seed=seed,
    budget=budget,
    targets=options.targets,
    epochs=options.epochs,
    steps=steps_of(options, task),
    batch=options.batch,
    train_rows=options.train_rows,
    eval_rows=options.eval_rows,
    rate=rate,
  )


def found(
  run: Run, done: list[Row], kind: str, task: str, method: str, budget: int
) -> list[Tried]:
  """The runs of a kind so far, whatever their rates and seeds."""
  like = spec(run.options, kind, task, method, 0, budget, 0.0).details()
  del like['rate'], like['seed']
  return [(row['rate'], row['seed'], row['value']) for row in matching(done, like)]


def chosen_rate(
  run: Run, done: list[Row], task: str, method: str, budget: int
) -> float:
  """The best rate that was searched, or the method's own."""
  known = found(run, done, 'tune', task, method, budget)
  return best_rate(known) if known else RATES[method]


def cases(run: Run) -> Iterator[Job]:
  """What is asked for and not done yet."""
  done, options = run.done(), run.options
  for budget in options.budget:
    for task in options.tasks:
      for method in options.methods:
        job = job_of(run, done, task, method, budget)
        if job.tune or job.runs:
          yield job


def job_of(run: Run, done: list[Row], task: str, method: str, budget: int) -> Job:
  """All that is missing of one method on one task."""
  options = run.options
  known = found(run, done, 'tune', task, method, budget)
  there = {(rate, seed) for rate, seed, _ in known}
  rates = [factor * RATES[method] for factor in options.factors]
  make = lambda kind, seed, rate: spec(options, kind, task, method, seed, budget, rate)
  tune = [
    make('tune', seed, rate)
    for rate, seed in itertools.product(rates, options.tuning_seeds)
    if options.tune and (rate, seed) not in there
  ]
  rate = chosen_rate(run, done, task, method, budget)
  cost = options.cost
  kind, seeds = ('cost', options.seeds[:1]) if cost else ('run', options.seeds)
  runs = tuple(make(kind, seed, rate) for seed in seeds)
  made = found(run, done, kind, task, method, budget)
  finished = tuple({(rate, seed) for rate, seed, _ in made})
  job = Job(tuple(tune), tuple(known), runs, finished)
  # What a search will leave to do is known only when it has chosen a rate.
  return job if tune else dataclasses.replace(job, runs=missing(job, known))


def measure(run: Run, job: Job) -> Iterator[Row]:
  """A row for every run; compilations are shared through a cache on disk."""
  keep_compiled()
  yield from execute(job, pathlib.Path(run.options.data), run.options.together)


@dataclasses.dataclass(frozen=True)
class Shown:
  """The recorded runs that the tables and pictures are about.

  Attributes:
    runs: at the chosen rates, of every budget.
    costs: short runs that were timed.
    tuned: at the chosen rates, scored on the held-out part of the training rows.
  """

  runs: list[Row]
  costs: list[Row]
  tuned: list[Row]

  def of(self, budgets: Sequence[int]) -> list[Row]:
    """The runs of some budgets."""
    return [row for row in self.runs if row['budget'] in budgets]


def shown(run: Run) -> Shown:
  """What is recorded of the options."""
  options, done = run.options, run.results.rows()
  like = spec(options, 'run', '', '', 0, options.budget[0], 0.0).details()
  for free in ('kind', 'task', 'method', 'seed', 'rate', 'budget', 'steps'):
    del like[free]
  alike = [
    row
    for row in matching(done, like)
    if row['steps'] == steps_of(options, row['task'])
  ]

  def is_chosen(row: Row) -> bool:
    """A rate that was searched later replaces the runs at another."""
    rate = chosen_rate(run, done, row['task'], row['method'], row['budget'])
    return row['rate'] == rate

  chosen = lambda kind: list(filter(is_chosen, matching(alike, {'kind': kind})))
  return Shown(chosen('run'), matching(alike, {'kind': 'cost'}), chosen('tune'))


def table(run: Run) -> str:
  """The tables of the first budget, and of all where there are several."""
  options, all_shown = run.options, shown(run)
  rows, asked = all_shown.of(options.budget[:1]), all_shown.of(options.budget)
  if not rows:
    return 'no such runs yet'
  methods, tasks = options.methods, tasks_of(run, rows)
  parts = [
    summary.main_table(rows, all_shown.costs, methods, tasks),
    summary.difference_table(rows, methods, tasks),
  ]
  if held_out := [r for r in all_shown.tuned if r['budget'] == options.budget[0]]:
    parts.append(summary.held_out_table(held_out, methods, tasks))
    parts.append(summary.held_out_differences(held_out, methods, tasks))
    parts.append(rates_table(run, tasks))
  if len(options.budget) > 1:
    for make in (summary.budget_table, summary.growth_table):
      parts.append(make(asked, methods, tasks_of(run, asked)))
    parts.append(every_rank.table(every_rank.curves(asked, tasks, options.budget[0])))
  points = summary.points(all_shown.runs, lambda own: summary.averages(own, tasks))
  best = [f'{method} {budget}' for method, budget in summary.front(points)]
  parts.append(f'on the front of metric against parameters: {", ".join(best)}')
  return '\n\n'.join(parts)


def rates_table(run: Run, tasks: Sequence[str]) -> str:
  """The rate that every search chose, and whether it lies at an edge of the search."""
  done, lines = run.results.rows(), []
  for method in run.options.methods:
    cells = []
    for task in tasks:
      tried = found(run, done, 'tune', task, method, run.options.budget[0])
      rates = [rate for rate, _, _ in tried]
      best = best_rate(tried) if tried else 0.0
      edges = {min(rates): ' (lowest)', max(rates): ' (highest)'} if tried else {}
      cells.append(f'{best:g}{edges.get(best, "")}' if tried else '')
    if any(cells):
      lines.append([method, *cells])
  return markdown(['rate chosen', *tasks], lines)


def draw(run: Run) -> None:
  """truncation.png, front.png and, of several budgets, every_rank.png."""
  from experiments.glue import figures

  all_shown, options = shown(run), run.options
  rows, methods = all_shown.of(run.options.budget[:1]), run.options.methods
  if rows:
    tasks = tasks_of(run, rows)
    figures.draw_truncation(rows, methods, tasks, run.folder / 'truncation.png')
    figures.draw_front(all_shown.runs, methods, tasks, run.folder / 'front.png')
    if len(options.budget) > 1:
      asked = all_shown.of(options.budget)
      found = every_rank.curves(asked, tasks, options.budget[0])
      every_rank.draw(found, run.folder / 'every_rank.png')


def tasks_of(run: Run, rows: list[Row]) -> list[str]:
  """The tasks asked for that have runs."""
  there = {row['task'] for row in rows}
  return [task for task in run.options.tasks if task in there]


EXPERIMENT = Experiment(
  'glue.comparison',
  Options(),
  measure,
  cases,
  no_key,
  table,
  draw,
  needs=('data',),
  own_process=True,
  kept_as_they_come=True,
)

if __name__ == '__main__':
  main(EXPERIMENT)
