"""What all experiments share: cases, what is recorded of them, a table, and flags.

An experiment is a module with an `EXPERIMENT`, run as

  python -m experiments.FOLDER.NAME [--OPTION=VALUE ...] [--table]

Every field of its options is a flag; values of a tuple are joined by commas. Beside
them every experiment has

  --table      runs nothing; prints and draws what is recorded
  --only=A,B   only the cases whose name contains A or B
  --again      also what is recorded already
  --jobs=N     so many cases side by side, each in a process with one thread
  --limit=S    begins no case after so many seconds
  --timeout=S  stops a case that runs in a process of its own after so many seconds
  --out=DIR    results and pictures elsewhere than in the experiment's own folder

Figures are printed, one JSON object a line, and kept in FOLDER/results/NAME.jsonl, a
case's together when it is done. What is kept there is not measured again.
"""

import argparse
import concurrent.futures
import dataclasses
import inspect
import json
import math
import pathlib
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from adapad_jax import freed_memory
from adapad_jax.settings import did_you_mean
from experiments import processes, tables
from experiments.results import Results, Row, matching, stamped

HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Run:
  """One call of an experiment.

  Attributes:
    name: of the experiment.
    options: its own.
    folder: of results and pictures.
    again: whether what is recorded counts as missing.
  """

  name: str
  options: Any
  folder: pathlib.Path
  again: bool = False

  @property
  def results(self) -> Results:
    """Its file of figures."""
    return Results(self.folder / f'{self.name}.jsonl')

  def done(self) -> list[Row]:
    """The rows that need not be measured again."""
    return [] if self.again else self.results.rows()

  def changed(self) -> dict[str, Any] | None:
    """The options that differ from their defaults; None if none does."""
    default = type(self.options)()
    names = [field.name for field in dataclasses.fields(self.options)]
    values = {name: getattr(self.options, name) for name in names}
    found = {k: v for k, v in values.items() if v != getattr(default, k)}
    return found or None


def whole(run: Run) -> list[Any]:
  """One case: the experiment with its options."""
  return [run.options]


def key_of_whole(run: Run, case: Any) -> dict[str, Any]:
  """Rows without 'settings' were measured with the defaults."""
  return {'settings': run.changed()}


def key_of_fields(run: Run, case: Any) -> dict[str, Any]:
  """A row that holds all fields of a case is one of it."""
  return dataclasses.asdict(case)


def no_key(run: Run, case: Any) -> None:
  """For cases that are measured every time."""


def name_of(case: Any) -> str:
  """A case in words: its own name if it has one, else its fields."""
  fields = dataclasses.asdict(case)
  return getattr(case, 'name', '') or ' '.join(f'{k}={v}' for k, v in fields.items())


def print_figures(run: Run) -> str:
  """All rows there are."""
  return tables.figures(run.results.rows())


@dataclasses.dataclass(frozen=True)
class Experiment:
  """What `main` needs to know.

  Attributes:
    name: of the module, 'theory.staleness'.
    options: a frozen dataclass with defaults.
    measure: (run, case) -> the rows of the case, one after the other.
    cases: run -> frozen dataclasses, see `name_of`.
    key: (run, case) -> fields that a recorded row of the case has; None for a case
      that is measured every time.
    table: run -> what is printed when all is done.
    draw: run -> writes pictures from the recorded rows.
    needs: options without which nothing can be measured.
    own_process: every case in a fresh process, whose peak of memory is that of the
      case.
    env: (run, case) -> variables of that process.
    kept_as_they_come: rows are kept one by one, because `cases` can go on from a part
      of a case.
  """

  name: str
  options: Any
  measure: Callable[[Run, Any], Iterator[Row]]
  cases: Callable[[Run], Iterable[Any]] = whole
  key: Callable[[Run, Any], dict[str, Any] | None] = key_of_whole
  table: Callable[[Run], str] = print_figures
  draw: Callable[[Run], None] = lambda run: None
  needs: tuple[str, ...] = ()
  own_process: bool = False
  env: Callable[[Run, Any], dict[str, str]] = lambda run, case: {}
  kept_as_they_come: bool = False

  def run(
    self, folder: pathlib.Path | None = None, again: bool = False, **options: Any
  ) -> Run:
    """A call with these options."""
    group, name = self.name.split('.')
    there = folder or HERE / group / 'results'
    return Run(name, dataclasses.replace(self.options, **options), there, again)


def main(experiment: Experiment, arguments: Sequence[str] | None = None) -> None:
  """Measures what is missing, then prints the table and draws.

  Raises:
    SystemExit: for wrong flags, and at the end if cases have failed.
  """
  if arguments is None:
    start_as_commands_do()
  given = parse(experiment, sys.argv[1:] if arguments is None else arguments)
  run = called(experiment, given)
  failed = 0 if given.table else measure(experiment, run, given)
  print(experiment.table(run))
  experiment.draw(run)
  if failed:
    sys.exit(f'{failed} cases failed; the same command tries them again')


def start_as_commands_do() -> None:
  """Keeps freed memory, as `adapad_jax.main` does."""
  spec = sys.modules['__main__'].__spec__
  if spec is not None:
    freed_memory.start_again(spec.name)
  freed_memory.prepare_jax()


def called(experiment: Experiment, given: argparse.Namespace) -> Run:
  """The call that flags stand for."""
  names = [field.name for field in dataclasses.fields(experiment.options)]
  options = {name: getattr(given, name) for name in names}
  there = pathlib.Path(given.out) if given.out else None
  return experiment.run(there, given.again, **options)


def parse(experiment: Experiment, arguments: Sequence[str]) -> argparse.Namespace:
  """The flags: fields of the options, and those that every experiment has."""
  module = sys.modules[experiment.measure.__module__]
  about = inspect.cleandoc(type(experiment.options).__doc__)
  parser = argparse.ArgumentParser(
    prog=f'python -m experiments.{experiment.name}',
    description=f'{module.__doc__}\nOptions. {about}',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  hints = typing.get_type_hints(type(experiment.options))
  for field in dataclasses.fields(experiment.options):
    default = getattr(experiment.options, field.name)
    help = f'default: {default!r}'.replace('%', '%%')
    how = _argument(hints[field.name])
    parser.add_argument(f'--{field.name}', default=default, help=help, **how)
  every = parser.add_argument_group('of every experiment')
  every.add_argument('--table', action='store_true', help='run nothing')
  every.add_argument('--only', type=_several(str), default=(), help='names of cases')
  every.add_argument('--again', action='store_true', help='also what is recorded')
  every.add_argument('--jobs', type=int, default=1, help='cases side by side')
  every.add_argument('--limit', type=float, default=math.inf, help='seconds in all')
  every.add_argument('--timeout', type=float, default=math.inf, help='s of a case')
  every.add_argument('--out', default='', help='folder of results and pictures')
  given = parser.parse_args(arguments)
  lacking = [f'--{name}' for name in experiment.needs if not getattr(given, name)]
  if lacking and not given.table:
    parser.error(f'{", ".join(lacking)} must be given, or --table')
  return given


def _argument(hint: Any) -> dict[str, Any]:
  """How argparse reads a field of this type."""
  if hint is bool:
    return {'action': argparse.BooleanOptionalAction}
  if typing.get_origin(hint) is typing.Literal:
    return {'choices': typing.get_args(hint)}
  if typing.get_origin(hint) is tuple:
    return {'type': _several(typing.get_args(hint)[0])}
  return {'type': hint}


def _several(one: Any) -> Callable[[str], tuple[Any, ...]]:
  """Reads values joined by commas, '' being none unless it is a choice itself."""
  choices = typing.get_args(one)

  def read(text: str) -> tuple[Any, ...]:
    parts = [part for part in text.split(',') if part or '' in choices]
    for part in parts:
      if choices and part not in choices:
        hint = did_you_mean(part, choices)
        raise argparse.ArgumentTypeError(f'unknown value {part!r}{hint}')
    try:
      return tuple(parts if choices else map(one, parts))
    except ValueError:
      wanted = f'{one.__name__} joined by commas'
      raise argparse.ArgumentTypeError(f'{text!r} is not {wanted}') from None

  return read


def measure(experiment: Experiment, run: Run, given: argparse.Namespace) -> int:
  """Measures the cases that are missing; returns how many failed.

  A case that fails with a RuntimeError is told on stderr and stops no other.
  """
  end, writing, failed = time.monotonic() + given.limit, threading.Lock(), []
  apart = experiment.own_process or given.jobs > 1
  alone = processes.side_by_side() if given.jobs > 1 else {}

  def work(case: Any) -> None:
    if time.monotonic() > end:
      print(f'# --limit reached before {name_of(case)}', file=sys.stderr)
      return
    if apart:
      env = alone | experiment.env(run, case)
      timeout = min(given.timeout, end - time.monotonic())
      rows = processes.stream(experiment.measure, run, case, env=env, timeout=timeout)
    else:
      rows = experiment.measure(run, case)
    try:
      _keep(experiment, run, case, rows, writing)
    except RuntimeError as error:
      print(f'# {name_of(case)}: {error}', file=sys.stderr)
      failed.append(case)

  cases = missing(experiment, run, given.only)
  if given.jobs == 1:  # In this thread, where pictures may be drawn.
    for case in cases:
      work(case)
    return len(failed)
  with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
    list(pool.map(work, cases))
  return len(failed)


def missing(experiment: Experiment, run: Run, only: Sequence[str] = ()) -> list[Any]:
  """The cases that are asked for and not recorded."""
  done = run.done()

  def is_wanted(case: Any) -> bool:
    if only and not any(text in name_of(case) for text in only):
      return False
    key = experiment.key(run, case)
    return key is None or not matching(done, key)

  return [case for case in experiment.cases(run) if is_wanted(case)]


def _keep(
  experiment: Experiment,
  run: Run,
  case: Any,
  rows: Iterable[Row],
  writing: threading.Lock,
) -> None:
  """Prints rows as they come; keeps them, as a rule when all are there."""
  settings = (experiment.key(run, case) or {}).get('settings')
  more, made = {'settings': settings} if settings else {}, []
  for row in rows:
    made.append(stamped(row | more))
    with writing:
      print(json.dumps(made[-1]), flush=True)
      if experiment.kept_as_they_come:
        run.results.keep(made[-1:])
  if not experiment.kept_as_they_come:
    with writing:
      run.results.keep(made)
