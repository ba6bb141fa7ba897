"""The runs of the experiment: what they are, and what is known of them."""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterable
from typing import Any

from adapad_jax.training import finetune_config, train
from configs.glue import get_config
from experiments.figures import panels, save
from experiments.glue_table.settings import FOLDERS
from experiments.record import record, recorded

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
class Case:
  """One run; `feeding` is 'federated', or 'split' where all see all data."""

  task: str
  steps: int
  local_steps: int
  workers: int
  skew: float
  seed: int
  feeding: str = 'federated'


def cases(
  task: str, steps: int, seeds: Iterable[int], sweeps: Iterable[str]
) -> list[Case]:
  """Every sweep through the same centre, and that centre without private data."""
  found = []
  for seed in seeds:
    centre = Case(task, steps, **_CENTRE, seed=seed)
    found += [centre, dataclasses.replace(centre, feeding='split')]
    for name in sweeps:
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


def measure(folder: pathlib.Path, case: Case, data: str) -> None:
  """Trains, and records the metric of the last state and the bytes that were sent."""
  with tempfile.TemporaryDirectory() as workdir:
    result = train(finetune_config(settings(case, data)), workdir)
  name, sent = result['metric'], result['bytes_sent_per_round']
  record(
    folder,
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


def missing(folder: pathlib.Path, wanted: Iterable[Case]) -> list[Case]:
  """The cases that the folder's results do not hold."""
  rows = recorded(folder)
  is_known = lambda case: any(
    dataclasses.asdict(case).items() <= row.items() for row in rows
  )
  return [case for case in wanted if not is_known(case)]


def draw(folder: pathlib.Path, rows: list[dict[str, Any]]) -> None:
  """A panel for each sweep; grey lines: every worker sees rows of all data."""
  fig, axes = panels(len(SWEEPS))
  for axis in axes[1:]:
    axis.sharey(axes[0])
  for axis, (name, values) in zip(axes, SWEEPS.items(), strict=True):
    others = {k: v for k, v in _CENTRE.items() if k != name}.items()
    mine = [x for x in rows if others <= x.items() and x[name] in values]
    own = [x for x in mine if x['feeding'] == 'federated']
    axis.plot([values.index(x[name]) for x in own], [x['value'] for x in own], 'o')
    for x in rows:
      if x['feeding'] == 'split':
        axis.axhline(x['value'], color='grey', lw=1)
    axis.set_xticks(range(len(values)), [f'{value:g}' for value in values])
    axis.set_xlabel(LABELS[name])
  axes[0].set_ylabel(rows[0]['figure'].replace(' after', '\nafter'))
  save(fig, folder)
