"""AdaPaD's variants and its peers on GLUE by held-out loss, seed by seed.

  python -m experiments.glue.held_out --data=FOLDER --tune
  python -m experiments.glue.held_out --data=FOLDER
  python -m experiments.glue.held_out --table

FOLDER has the official GLUE files, FOLDER/CoLA and so on. MiniLM with an average of two
components a module. A fifth of the training rows is held out; a run is scored on it
once, at its end, by the loss, which tells more apart than a metric that counts rows, by
the area under the ROC curve where there are two classes, and by the task's metric.
`--tune` trains one seed of its own at several rates; without it runs take the rate with
the lowest loss there. All runs of a seed see the same batches.
"""

import dataclasses
import itertools
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import scipy.special
import sklearn.metrics

from adapad_jax.compilation import keep_compiled
from adapad_jax.training import FinetuneConfig, train
from adapad_jax.training.saved import SavedRun, restore
from experiments import timing
from experiments.glue.settings import FOLDERS, RATES, Spec, config_of
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, matching, row
from experiments.tables import markdown, mean_sd, paired_text

TUNING_SEED = 2000
_GRADIENT = {'gradient_batches': 16}
# Steps of the head before the gradient is taken.
_HEAD_STEPS = 30
# Every other row trains the whole update, and none a component alone.
_HALF_NESTED = {'nested': 0.5, 'joint': 1.0}
# Every row belongs to one worker, or is seen by all, as the paper has it.
_PURE = {'joint': 0.0, 'polish': 0.0, 'head_rows': 'last'}
_PUBLISHED = _PURE | {'feeding': 'replicate'}


@dataclasses.dataclass(frozen=True)
class Variant:
  """What is trained.

  Attributes:
    method: of `adapad_jax.methods`.
    changes: settings of the method that differ from its own.
    longer: times the steps of the others.
  """

  method: str
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  longer: int = 1


VARIANTS = {
  'LoRA of rank 2': Variant('lora'),
  'LoRA of rank 2 from the gradient': Variant('lora', _GRADIENT),
  # What a round of four workers costs that all see every row.
  'LoRA of rank 2 for four times the steps': Variant('lora', longer=4),
  'recipe': Variant('adapad'),
  'recipe from the gradient': Variant('adapad', _GRADIENT),
  'recipe with half of the rows nested': Variant('adapad', _HALF_NESTED),
  'recipe with every row nested': Variant('adapad', {'nested': 1.0}),
  'recipe with every row joint': Variant('adapad', {'polish': 0.999}),
  'every row deflates': Variant('adapad', _PURE),
  'published (every worker sees every row)': Variant('adapad', _PUBLISHED),
  'AdaLoRA': Variant('adalora'),
  'IncreLoRA': Variant('increlora'),
  'sequential deflation': Variant('sequential'),
  'DyLoRA': Variant('dylora'),
  'MatryoshkaLoRA': Variant('matryoshka'),
  'EVA': Variant('eva'),
  'LoRA-One': Variant('lora_one'),
}
_PLAIN = 'LoRA of rank 2'
_FIRST = _PLAIN, 'recipe', 'recipe with half of the rows nested'


@dataclasses.dataclass(frozen=True)
class Options:
  """What is combined.

  Attributes:
    data: folder of the GLUE files.
    tasks, variants, seeds: of the runs.
    steps: of a run, batches of 32 rows; of some variants a multiple of them.
    dtype: of the frozen weights.
    rates: that a search tries.
    tune: search rates instead.
  """

  data: str = ''
  tasks: tuple[Literal[*FOLDERS], ...] = ('cola', 'stsb')
  variants: tuple[Literal[*VARIANTS], ...] = _FIRST
  seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
  steps: int = 300
  dtype: str = 'bfloat16'
  rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
  tune: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
  """One run."""

  kind: str
  task: str
  variant: str
  seed: int
  rate: float
  steps: int
  dtype: str


def cases(run: Run) -> Iterator[Case]:
  """The runs of a search, or those at the rates that it has found, seed by seed."""
  o = run.options
  if o.tune:
    for task, variant, rate in itertools.product(o.tasks, o.variants, o.rates):
      yield Case('tune', task, variant, TUNING_SEED, rate, o.steps, o.dtype)
    return
  for seed, task, variant in itertools.product(o.seeds, o.tasks, o.variants):
    rate = best_rate(run, task, variant)
    yield Case('run', task, variant, seed, rate, o.steps, o.dtype)


def best_rate(run: Run, task: str, variant: str) -> float:
  """The rate with the lowest loss of those searched, or the method's own."""
  like = {'kind': 'tune', 'task': task, 'variant': variant}
  tried = matching(_of_size(run), like)
  method = VARIANTS[variant].method
  return min(tried, key=lambda one: one['value'])['rate'] if tried else RATES[method]


def _of_size(run: Run) -> list[Row]:
  """What is recorded of runs as long as these."""
  size = {'steps': run.options.steps, 'dtype': run.options.dtype}
  return matching(run.results.rows(), size)


def config_for(case: Case, data: pathlib.Path) -> FinetuneConfig:
  """A run of the comparison on the rows that are not held out, with the changes."""
  variant = VARIANTS[case.variant]
  spec = Spec(
    kind='tune',  # Holds rows out.
    task=case.task,
    method=variant.method,
    seed=case.seed,
    budget=2,
    targets='all-linear',
    epochs=0.0,
    steps=variant.longer * case.steps,
    batch=32,
    train_rows=0,
    eval_rows=0,
    rate=case.rate,
  )
  config = config_of(spec, data)
  settings = dataclasses.replace(config.settings, **variant.changes)
  # No prefix is scored.
  length = dataclasses.replace(
    config.train,
    head_steps=_HEAD_STEPS if 'gradient_batches' in variant.changes else 0,
    curve_from=64,
  )
  model = dataclasses.replace(config.model, dtype=case.dtype)
  return dataclasses.replace(config, settings=settings, train=length, model=model)


def measure(run: Run, case: Case) -> Iterator[Row]:
  """The loss on the held-out rows, and what else they are scored by."""
  keep_compiled()
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder) / 'run'
    found = train(config_for(case, pathlib.Path(run.options.data)), workdir)
    loss, auc, rows = scores(restore(workdir))
  yield row(
    'held-out loss',
    loss,
    'nats a row' if auc is not None else 'squared error',
    **dataclasses.asdict(case),
    auc=auc,
    metric=found['metric'],
    score=found['last']['metrics'][found['metric']],
    rows=rows,
    adapter_parameters=found['adapter_parameters'],
    seconds=round(found['seconds'], 1),
    processor=timing.processor(),
  )


def scores(saved: SavedRun) -> tuple[float, float | None, int]:
  """(mean loss, area under the ROC curve of two classes, rows) on the held-out rows."""
  split = saved.plan.task.splits['validation']
  outputs, label_N = saved.outputs(split), split.columns['label_B']
  if 'value_B' in outputs:
    return float(np.mean((outputs['value_B'] - label_N) ** 2)), None, len(label_N)
  log_p_NC = scipy.special.log_softmax(outputs['logits_BC'].astype(np.float64), axis=1)
  loss = -np.mean(np.take_along_axis(log_p_NC, label_N[:, None], axis=1))
  auc = sklearn.metrics.roc_auc_score(label_N, log_p_NC[:, 1] - log_p_NC[:, 0])
  return float(loss), float(auc), len(label_N)


def table(run: Run) -> str:
  """For each task the search, and every variant beside LoRA over the same seeds."""
  rows, parts = _of_size(run), []
  for task in FOLDERS:
    tried = matching(rows, {'task': task, 'kind': 'tune'})
    made = matching(rows, {'task': task, 'kind': 'run'})
    if tried or made:
      parts += [f'{task}:', *([_search(tried)] if tried else [])]
      parts += [_runs(made)] if made else []
  return '\n\n'.join(parts) or 'no such runs yet'


def _search(rows: Sequence[Row]) -> str:
  """The loss at every rate."""
  found = {(one['variant'], one['rate']): one['value'] for one in rows}
  rates = sorted({rate for _, rate in found})
  cell = lambda key: f'{found[key]:.4f}' if key in found else ''
  lines = [
    [variant, *(cell((variant, rate)) for rate in rates)]
    for variant in VARIANTS
    if any((variant, rate) in found for rate in rates)
  ]
  return markdown(['held-out loss at rate', *(f'{rate:g}' for rate in rates)], lines)


def _runs(rows: Sequence[Row]) -> str:
  """Means over seeds, and losses minus LoRA's."""
  of = {
    name: {one['seed']: one for one in matching(rows, {'variant': name})}
    for name in VARIANTS
  }
  plain = _losses(of[_PLAIN])
  lines = []
  for variant, own in of.items():
    if not own:
      continue
    losses = _losses(own)
    gap = '' if variant == _PLAIN else paired_text(losses, plain)
    mean = lambda name, own=own: np.mean([one[name] for one in own.values()])
    auc = f'{mean("auc"):.4f}' if own[min(own)]['auc'] is not None else ''
    rate = f'{own[min(own)]["rate"]:g}'
    numbers = [mean_sd([*losses.values()], 4), auc, f'{mean("score"):.4f}']
    lines.append([variant, rate, str(len(own)), *numbers, gap])
  head = ['variant', 'rate', 'seeds', 'held-out loss', 'AUC', 'metric']
  return markdown([*head, 'loss minus LoRA'], lines)


def _losses(by_seed: Mapping[int, Row]) -> dict[int, float]:
  return {seed: one['value'] for seed, one in by_seed.items()}


EXPERIMENT = Experiment(
  'glue.held_out',
  Options(),
  measure,
  cases,
  key_of_fields,
  table,
  needs=('data',),
  own_process=True,
)

if __name__ == '__main__':
  main(EXPERIMENT)
