"""The program as it is beside an earlier revision, by turns on one machine.

  python -m experiments.speed.revisions --before=REVISION
  python -m experiments.speed.revisions --before=REVISION --only=help --repeats=5
  python -m experiments.speed.revisions --before=REVISION --model=MODEL --data=FOLDER

Either revision is exported from git into a folder of its own and run with the same
interpreter and packages, as a user runs it. `first step` has an empty compilation cache
in every turn; all else finds what a run before the turns has compiled. With MODEL,
which `experiments.export.smollm2` has written, and FOLDER, which has gsm8k-train.jsonl,
there are first steps of instruction tuning too.
"""

import dataclasses
import json
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments import timing
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row
from experiments.speed import start
from experiments.tables import markdown

_QUICKSTART = '--config=configs/glue.py:quickstart'
_FEW = '--config.train.steps=20'
UNITS = {
  'seconds': 's',
  'processor time': 's',
  'peak': 'GiB',
  'evaluations and curve': 's',
  'rounds': 's',
}


@dataclasses.dataclass(frozen=True)
class Options:
  """What is compared.

  Attributes:
    before: an earlier revision, as git names it.
    repeats: turns of either side.
    model, data: of instruction tuning; '' leaves it out.
  """

  before: str = ''
  repeats: int = 3
  model: str = ''
  data: str = ''


@dataclasses.dataclass(frozen=True)
class Case:
  """A command.

  Attributes:
    name: in the figures.
    arguments: of the program.
    line: of its output, with which the measurement ends; '' lets it end by itself.
    code: with which it then ends.
    trains: whether it has a workdir.
    is_cold: whether it finds nothing that is kept between starts.
    few: makes it a short run, which leaves compiled programs.
  """

  name: str
  arguments: tuple[str, ...]
  line: str = ''
  code: int = 0
  trains: bool = False
  is_cold: bool = False
  few: str = _FEW


CASES = (
  Case('help', ('--help',), code=1),  # absl's.
  Case('dry_run', (_QUICKSTART, '--dry_run')),
  Case('first step', (_QUICKSTART, _FEW), start.FIRST, trains=True, is_cold=True),
  Case('first step, warm', (_QUICKSTART, _FEW), start.FIRST, trains=True),
  Case('quickstart', (_QUICKSTART,), trains=True),
)


def cases(run: Run) -> Iterator[Case]:
  """The commands that there is what it takes for."""
  yield from CASES
  model, data = run.options.model, run.options.data
  if model and data:
    arguments = (
      '--config=configs/sft.py:smollm2',
      f'--config.model.source={model}',
      f'--config.data.train={data}/gsm8k-train.jsonl',
      '--config.data.holdout=0.05',
      '--config.data.max_eval_rows=8',
      '--config.data.generation.samples=0',
      '--config.train.batch=8',
      '--config.train.evaluations=1',
      '--config.train.curve_from=64',
    )
    for name, is_cold in (('first step', True), ('first step, warm', False)):
      name = f'SmolLM2, {name}'
      yield Case(
        name,
        arguments,
        start.FIRST,
        trains=True,
        is_cold=is_cold,
        few='--config.train.steps=2',
      )


def key(run: Run, case: Case) -> dict[str, Any]:
  """A command is compared with a revision once on a kind of processor."""
  return {
    'case': case.name,
    'revision': run.options.before,
    'processor': timing.processor(),
  }


def measure(run: Run, case: Case) -> Iterator[Row]:
  """Every figure of a command: the medians of either side, and of their ratios."""
  with tempfile.TemporaryDirectory() as scratch:
    sides = pathlib.Path(scratch, 'before'), pathlib.Path(scratch, 'now')
    for side, revision in zip(sides, (run.options.before, 'HEAD'), strict=True):
      export(revision, side)
    if not case.is_cold:
      for side in sides:
        warm_up(side, case)
    turns = [
      [taken(side, case, turn) for side in sides] for turn in range(run.options.repeats)
    ]
  for figure in turns[0][1]:
    pairs_T2 = np.array([[side[figure] for side in turn] for turn in turns])
    yield row(
      f'{case.name}: {figure}',
      float(np.median(pairs_T2[:, 1])),
      UNITS[figure],
      before=float(np.median(pairs_T2[:, 0])),
      **timing.spread(pairs_T2[:, 1] / pairs_T2[:, 0]),
      repeats=run.options.repeats,
      **key(run, case),
    )


def export(revision: str, folder: pathlib.Path) -> None:
  """The files of a revision of this project.

  Raises:
    CalledProcessError: if git does not know it.
  """
  folder.mkdir()
  archive = ['git', '-C', str(start.ROOT), 'archive', '--format=tar', revision]
  files = subprocess.run(archive, check=True, stdout=subprocess.PIPE).stdout
  subprocess.run(['tar', '-x', '-C', str(folder)], check=True, input=files)


def warm_up(side: pathlib.Path, case: Case) -> None:
  """Leaves what a command keeps in the cache of its side."""
  whole = dataclasses.replace(case, line='')
  few = (*case.arguments, case.few) if case.trains else case.arguments
  taken(side, dataclasses.replace(whole, arguments=few), turn=-1)


def taken(side: pathlib.Path, case: Case, turn: int) -> dict[str, float]:
  """What a command took as its revision has it, by figure."""
  cache = f'{side}-cold-{turn}' if case.is_cold else f'{side}-warm'
  env = {**start.kept_in(cache), 'PYTHONPATH': str(side)}
  arguments = list(case.arguments)
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder, 'run')
    arguments += [f'--workdir={workdir}'] if case.trains else []
    one = start.started(arguments, env, case.line, case.code, side)
    found = {'seconds': one.seconds}
    if case.line:  # Where it has got to when the line is read is chance.
      return found
    found |= {'processor time': one.cpu, 'peak': one.peak}
    return found | (of_result(workdir) if case.trains else {})


def of_result(workdir: pathlib.Path) -> dict[str, float]:
  """What a run has measured of itself."""
  result = json.loads((workdir / 'result.json').read_text())
  spent = result['phases']
  scored = [spent.get(name, 0.0) for name in ('evaluations', 'truncation curve')]
  return {
    'evaluations and curve': sum(scored),
    'rounds': spent['rounds'],
  }


def table(run: Run) -> str:
  """Every figure before and now, with the ratio."""
  lines = [
    [
      one['figure'],
      one['revision'],
      one['processor'],
      f'{one["before"]:.2f}',
      f'{one["value"]:.2f}',
      one['unit'],
      f'{one["ratio"]:.2f} ({one["least"]:.2f} to {one["most"]:.2f})',
    ]
    for one in run.results.rows()
  ]
  head = ['figure', 'revision before', 'processor', 'before', 'now', 'unit']
  return markdown([*head, 'now / before'], lines)


EXPERIMENT = Experiment(
  'speed.revisions',
  Options(),
  measure,
  cases,
  key,
  table,
  needs=('before',),
)

if __name__ == '__main__':
  main(EXPERIMENT)
