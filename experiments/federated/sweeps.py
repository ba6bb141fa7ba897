"""AdaPaD on data that stays where it is: the metric against H, workers and skew.

  python -m experiments.federated.sweeps --steps=100
  python -m experiments.federated.sweeps --data=FOLDER --task=sst2 --steps=2000

FOLDER/SST-2 being the official files; without, snippets of Rotten Tomatoes.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any, Literal

from absl import logging

from adapad_jax.compilation import keep_compiled
from adapad_jax.training import finetune_config, train
from configs.glue import get_config
from experiments import tables
from experiments.glue.settings import FOLDERS
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, matching, row

SWEEPS = {
  'local_steps': (1, 2, 5, 10, 25),
  'skew': (0.0, 10.0, 1.0, 0.3),
  'workers': (2, 4, 8),
}
LABELS = {
  'local_steps': 'local steps between broadcasts, H',
  'skew': 'Dirichlet parameter of the labels (0: even)',
  'workers': 'workers with data of their own',
}
_CENTRE = {'local_steps': 1, 'skew': 0.0, 'workers': 4}


@dataclasses.dataclass(frozen=True)
class Options:
  """What all runs share, and which there are.

  Attributes:
    data: folder with the official GLUE files.
    task: of configs/glue.py.
    steps: batches of a run.
    seeds: of each case.
    sweeps: what is changed, one at a time, from H = 1, even shares and four workers.
  """

  data: str = ''
  task: str = 'rotten_tomatoes'
  steps: int = 150
  seeds: tuple[int, ...] = (0,)
  sweeps: tuple[Literal['local_steps', 'skew', 'workers'], ...] = tuple(SWEEPS)


@dataclasses.dataclass(frozen=True)
class Case:
  """One run; `feeding` is 'federated', or 'split' where all see all data."""

  task: str
  steps: int
  local_steps: int
  workers: int
  skew: float
  seed: int
  feeding: str = 'federated'


def cases(run: Run) -> list[Case]:
  """Every sweep through the same centre, and that centre without private data."""
  options, found = run.options, []
  for seed in options.seeds:
    centre = Case(options.task, options.steps, **_CENTRE, seed=seed)
    found += [centre, dataclasses.replace(centre, feeding='split')]
    for name in options.sweeps:
      found += [dataclasses.replace(centre, **{name: x}) for x in SWEEPS[name]]
  return list(dict.fromkeys(found))


def settings(case: Case, data: str) -> dict[str, Any]:
  """The config of a case: MiniLM; every worker's rows train the head."""
  config = get_config(f'{case.task},minilm')
  config.seed = case.seed
  config.data.path = str(pathlib.Path(data) / FOLDERS[case.task]) if data else ''
  config.data.max_length = 40
  config.train.steps = case.steps
  config.train.evaluations = 1
  # One length of rows: with few steps a compilation takes longer than it saves.
  config.train.buckets = ()
  adapad = config.adapad
  adapad.feeding, adapad.skew = case.feeding, case.skew
  adapad.joint = adapad.polish = 0.0
  adapad.r_max, adapad.local_steps = case.workers, case.local_steps
  adapad.head_rows = 'all'
  return config.to_dict()


def measure(run: Run, case: Case) -> Iterator[Row]:
  """The metric of the last state, and the bytes that were sent."""
  logging.set_verbosity(logging.WARNING)  # Checkpoints are talkative.
  keep_compiled()
  with tempfile.TemporaryDirectory() as workdir:
    result = train(finetune_config(settings(case, run.options.data)), workdir)
  name, sent = result['metric'], result['bytes_sent_per_round']
  yield row(
    f'{name} of {case.task} after {case.steps} batches',
    round(result['last']['metrics'][name], 5),
    '',
    **dataclasses.asdict(case),
    baseline=result['baseline']['metrics'][name],
    rounds=result['rounds'],
    bytes_sent_per_round=sent,
    megabytes_sent=sent * result['rounds'] / 1e6,
    rank_total=result['rank_total'],
    seconds=round(result['seconds'], 1),
    device=result['devices'][0],
  )


def rows_of(run: Run) -> list[Row]:
  """What is recorded of the task and its length."""
  like = {'task': run.options.task, 'steps': run.options.steps}
  return matching(run.results.rows(), like)


def table(run: Run) -> str:
  """The metric of every case in points, a column for each seed."""
  rows = rows_of(run)
  seeds = sorted({row['seed'] for row in rows})
  names = ('feeding', *_CENTRE)
  found: dict[tuple[Any, ...], dict[int, Row]] = {}
  for one in rows:
    found.setdefault(tuple(one[name] for name in names), {})[one['seed']] = one
  lines = []
  for case, by_seed in found.items():
    values = [f'{100 * by_seed[s]["value"]:.1f}' if s in by_seed else '' for s in seeds]
    [sent, *_] = [one['megabytes_sent'] for one in by_seed.values()]
    lines.append([*map(str, case), *values, f'{sent:.1f}'])
  return tables.markdown([*names, *(f'seed {s}' for s in seeds), 'MB sent'], lines)


def draw(run: Run) -> None:
  """A panel for each sweep; grey lines: every worker sees rows of all data."""
  from experiments import figures

  rows = rows_of(run)
  if not rows:
    return
  fig, axes = figures.panels(len(SWEEPS))
  for axis in axes[1:]:
    axis.sharey(axes[0])
  for axis, (name, values) in zip(axes, SWEEPS.items(), strict=True):
    others = {k: v for k, v in _CENTRE.items() if k != name}
    mine = [x for x in matching(rows, others) if x[name] in values]
    own = matching(mine, {'feeding': 'federated'})
    axis.plot([values.index(x[name]) for x in own], [x['value'] for x in own], 'o')
    for x in matching(rows, {'feeding': 'split'}):
      axis.axhline(x['value'], color='grey', lw=1)
    axis.set_xticks(range(len(values)), [f'{value:g}' for value in values])
    axis.set_xlabel(LABELS[name])
  axes[0].set_ylabel(rows[0]['figure'].replace(' after', '\nafter'))
  figures.save(fig, run.folder / f'{run.name}.png')


EXPERIMENT = Experiment(
  'federated.sweeps',
  Options(),
  measure,
  cases,
  key_of_fields,
  table,
  draw,
  own_process=True,
)

if __name__ == '__main__':
  main(EXPERIMENT)
