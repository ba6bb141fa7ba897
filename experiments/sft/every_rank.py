"""What one run is worth at every rank: SmolLM2-135M cut to 1, 2, 4 and 8 components.

  python -m experiments.sft.every_rank --model=MODEL --data=FOLDER --tune --jobs=2
  python -m experiments.sft.every_rank --model=MODEL --data=FOLDER --jobs=2
  python -m experiments.sft.every_rank --table

One run of each method with eight components in every module, cut to fewer, beside LoRA
that was trained at each rank (`experiments.sft.comparison`: the same rows, batches,
steps and seeds). LoRA of rank 8 is cut by singular values, or re-ranked on rows of the
training file. `--tune` trains one seed of its own at several rates and scores it on
rows held out of the training set; without it runs take the rate with the lowest mean
loss over ranks there, and are scored on rows of the test file, once, at the end.
"""

import dataclasses
import itertools
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

import adapad_jax as ax
from adapad_jax import sharding
from adapad_jax.compilation import keep_compiled
from adapad_jax.lowrank import Adapter
from adapad_jax.reranking import fit, from_adapter
from adapad_jax.training import FinetuneConfig
from adapad_jax.training.curve import aurac
from adapad_jax.training.saved import SavedRun
from adapad_jax.training.transfer import deploy_adapter
from experiments import timing
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, matching, row
from experiments.sft import comparison
from experiments.tables import markdown, paired_text

RANKS = (1, 2, 4, 8)
# Nothing is to be discovered, so components need not wait for it.
_BUDGET = 8 * comparison.MODULES
_FULL = {'method': 'adapad', 'adapad.r_max': 8, 'adapad.budget': _BUDGET}
_AT_ONCE = _FULL | comparison.AT_ONCE
_LORA = {'method': 'lora', 'lora.rank': 8}
METHODS: dict[str, dict[str, Any]] = {
  'adapad': _FULL,
  'adapad nested': _AT_ONCE | {'adapad.nested': 1.0},
  'adapad half nested': _AT_ONCE | comparison.HALF_NESTED,
  'dylora': {'method': 'dylora', 'dylora.rank': 8},
  'matryoshka': {'method': 'matryoshka', 'matryoshka.rank': 8},
  'lora': _LORA,
  'lora re-ranked': _LORA,
}
# Rows of the training file that re-ranking sees.
_TEXT = 128
_RATE = 2e-3
OVER_RANKS = 'mean over log2 rank'
_HEAD = *(f'rank {rank}' for rank in RANKS), OVER_RANKS


@dataclasses.dataclass(frozen=True)
class Options:
  """What is trained.

  Attributes:
    model: folder that `experiments.export.smollm2` has written.
    data: folder of the rows.
    task: of `comparison.TASKS`.
    methods: names of `METHODS`.
    seeds: of runs.
    steps, batch: of a run.
    rows: that a run is scored on.
    dtype: of the frozen weights.
    rates: that a search tries.
    tune: search rates instead.
  """

  model: str = ''
  data: str = ''
  task: Literal[*comparison.TASKS] = 'gsm8k'
  methods: tuple[Literal[*METHODS], ...] = tuple(METHODS)
  seeds: tuple[int, ...] = (0, 1, 2)
  steps: int = 40
  batch: int = 8
  rows: int = 256
  dtype: str = 'bfloat16'
  rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
  tune: bool = False


def cases(run: Run) -> Iterator[comparison.Case]:
  """The runs of a search, or those at the rates that it has found, seed by seed."""
  o = run.options
  size = o.steps, o.batch, o.rows, o.dtype
  if o.tune:
    for method, rate in itertools.product(o.methods, o.rates):
      yield comparison.Case('tune', o.task, method, comparison.TUNING_SEED, rate, *size)
    return
  for seed, method in itertools.product(o.seeds, o.methods):
    rate = best_rate(run, method)
    yield comparison.Case('run', o.task, method, seed, rate, *size)


def best_rate(run: Run, method: str) -> float:
  """The rate with the lowest mean loss over ranks on held-out rows.

  LoRA's is that of LoRA of rank 8 in `comparison`: what it is worth when it is cut is
  not what it is trained for.
  """
  o = run.options
  if METHODS[method] == _LORA:
    return comparison.best_rate(_comparison(run), o.task, 'lora-8')
  like = {'kind': 'tune', 'task': o.task, 'method': method, 'figure': 'mean loss'}
  like |= {'steps': o.steps, 'batch': o.batch, 'dtype': o.dtype}
  tried = matching(run.results.rows(), like)
  return min(tried, key=lambda one: one['value'])['rate'] if tried else _RATE


def _comparison(run: Run) -> Run:
  """The other experiment at the same sizes."""
  o = run.options
  size = {'steps': o.steps, 'batch': o.batch, 'dtype': o.dtype}
  return comparison.EXPERIMENT.run(run.folder, **size)


def config_of(options: Options, case: comparison.Case) -> FinetuneConfig:
  """That of `comparison`, of the method, scored whole at the end and not by prefix."""
  where = comparison.Options(model=options.model, data=options.data, answers=0)
  plain = dataclasses.replace(case, method='lora')
  return comparison.changed_config(where, plain, METHODS[case.method])


def measure(run: Run, case: comparison.Case) -> Iterator[Row]:
  """The loss at every rank, and its mean over the logarithm of the rank."""
  keep_compiled()
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder) / 'run'
    result = ax.train(config_of(run.options, case), workdir)
    saved = ax.restore(workdir)
    if case.method == 'lora re-ranked':
      saved = reranked(saved)
    losses = [saved.evaluate(max_rank=rank)['loss'] for rank in RANKS[:-1]]
  losses.append(result['last']['metrics']['loss'])
  about = dataclasses.asdict(case) | {
    'adapter_parameters': result['adapter_parameters'],
    'seconds': round(result['seconds'], 1),
    'device': jax.devices()[0].device_kind,
    'processor': timing.processor(),
  }
  for rank, loss in zip(RANKS, losses, strict=True):
    yield row('loss', loss, 'nats a token', rank=rank, **about)
  yield row('mean loss', over_ranks(losses), 'nats a token', **about)


def reranked(saved: SavedRun) -> SavedRun:
  """A run whose components are those of re-ranking, so that prefixes are its cuts."""
  update = from_adapter(saved.session.pretrained, saved.adapter)
  columns = saved.plan.task.splits['train'].columns
  text = {name: column[:_TEXT] for name, column in columns.items()}
  mesh = sharding.make_mesh(1, jax.device_count())
  found = fit(update, text, RANKS[-1], mesh)
  components = {name: one.update for name, one in found.items()}
  whole = Adapter(components, saved.adapter.head)
  with jax.set_mesh(saved.plan.mesh):
    deployed = deploy_adapter(whole, saved.plan.modules)
  return dataclasses.replace(saved, deployed=deployed)


def over_ranks(losses: Sequence[float]) -> float:
  """The mean over log2 of the rank of losses at `RANKS`."""
  by_rank = dict(zip(RANKS, losses, strict=True))
  return aurac([by_rank.get(k) for k in range(RANKS[-1] + 1)])


def table(run: Run) -> str:
  """The search, and runs by rank beside LoRA trained at each rank."""
  o = run.options
  rows = matching(run.results.rows(), {'task': o.task, 'steps': o.steps})
  return '\n\n'.join([_of_search(rows), *_of_runs(rows, trained_losses(run))])


def trained_losses(run: Run) -> dict[str, dict[int, float]]:
  """Losses by seed of LoRA trained at each rank, and their mean over ranks."""
  o = run.options
  like = {'kind': 'run', 'task': o.task, 'steps': o.steps, 'rows': o.rows}
  rows = matching(_comparison(run).results.rows(), like)
  found = {
    str(rank): {
      one['seed']: one['value'] for one in rows if one['method'] == f'lora-{rank}'
    }
    for rank in RANKS
  }
  seeds = set.intersection(*(set(by_seed) for by_seed in found.values()))
  means = {s: over_ranks([found[str(rank)][s] for rank in RANKS]) for s in seeds}
  return found | {'mean': means}


def _of_search(rows: Sequence[Row]) -> str:
  """Losses at every rank of all that was tried."""
  rows = matching(rows, {'kind': 'tune'})
  found = {
    (one['method'], one['rate'], one.get('rank', 'mean')): one['value'] for one in rows
  }
  tried = sorted({(method, rate) for method, rate, _ in found}, key=_place)
  lines = [
    [method, f'{rate:g}', *(f'{found[method, rate, r]:.4f}' for r in (*RANKS, 'mean'))]
    for method, rate in tried
  ]
  return markdown(['one run of', 'learning rate', *_HEAD], lines)


def _place(tried: tuple[str, float]) -> tuple[int, float]:
  method, rate = tried
  return list(METHODS).index(method), rate


def _of_runs(
  rows: Sequence[Row], trained: dict[str, dict[int, float]]
) -> tuple[str, str]:
  """Losses at every rank, and what they lack to LoRA trained there, same seeds."""
  seeds = {one['seed'] for one in matching(rows, {'kind': 'run'})}
  trained = {
    name: {seed: loss for seed, loss in by_seed.items() if seed in seeds}
    for name, by_seed in trained.items()
  }
  names = [*map(str, RANKS), 'mean']
  text = lambda by_seed: f'{np.mean([*by_seed.values()]):.4f}' if by_seed else ''
  values, gaps = [], []
  for method in METHODS:
    own = matching(rows, {'kind': 'run', 'method': method})
    if not own:
      continue
    found = {name: {} for name in names}
    for one in own:
      found[str(one.get('rank', 'mean'))][one['seed']] = one['value']
    count = str(len(found['mean']))
    values.append([method, count, *(text(found[name]) for name in names)])
    gaps.append([method, *(paired_text(found[name], trained[name]) for name in names)])
  each, count = 'LoRA trained at each', str(len(trained['mean']))
  values.append([each, count, *(text(trained[name]) for name in names)])
  return (
    markdown(['one run of', 'seeds', *_HEAD], values),
    markdown(['one run of, minus LoRA', *_HEAD], gaps),
  )


EXPERIMENT = Experiment(
  'sft.every_rank',
  Options(),
  measure,
  cases,
  key_of_fields,
  table,
  needs=('model', 'data'),
  own_process=True,
)

if __name__ == '__main__':
  main(EXPERIMENT)
