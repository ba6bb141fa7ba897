"""SmolLM2-135M on questions with answers: AdaPaD beside LoRA at several ranks.

  python -m experiments.export.smollm2 --out=MODEL
  python -m experiments.sft.comparison --model=MODEL --data=FOLDER --tune
  python -m experiments.sft.comparison --model=MODEL --data=FOLDER
  python -m experiments.sft.comparison --table

FOLDER has arc-easy-train.json, arc-easy-test.json, gsm8k-train.jsonl and
gsm8k-test.jsonl. `--tune` trains one seed of its own at several rates and scores it on
rows held out of the training set; without it runs take the rate with the lowest loss
there, and are scored on rows of the test file, once, at the end.
"""

import dataclasses
import itertools
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from ml_collections import ConfigDict

from adapad_jax.compilation import keep_compiled
from adapad_jax.training import FinetuneConfig, finetune_config, train
from configs.sft import get_config
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, matching, row
from experiments.tables import markdown, mean_sd, paired_text

TUNING_SEED, _HOLDOUT = 1000, 0.1
# Of a method for which, and for LoRA of any rank, nothing was searched.
_RATE = 1e-3
METHODS = ('adapad', 'lora-1', 'lora-2', 'lora-4', 'lora-8')


@dataclasses.dataclass(frozen=True)
class Task:
  """A set of rows.

  Attributes:
    train, test: files.
    length: tokens of a row.
    buckets: shorter rows are padded to these.
    answer: how its final answer is found, see `data.generation`.
    new_tokens: of a generated answer.
  """

  train: str
  test: str
  length: int
  buckets: tuple[int, ...]
  answer: str
  new_tokens: int


# Seven linear layers in each of the model's thirty blocks.
MODULES = 210
# Every module is granted a component a round, so that ranks are soon what they will be.
AT_ONCE = {
  'adapad.start': 1,
  'adapad.interval': 1,
  'adapad.grants_per_event': MODULES,
}
# Every other row trains the whole update, and none a component alone.
HALF_NESTED = {'adapad.nested': 0.5, 'adapad.joint': 1.0}
TASKS = {
  'arc': Task('arc-easy-train.json', 'arc-easy-test.json', 144, (), 'choice', 12),
  'gsm8k': Task('gsm8k-train.jsonl', 'gsm8k-test.jsonl', 160, (), 'hashes', 160),
}


@dataclasses.dataclass(frozen=True)
class Options:
  """What is trained.

  Attributes:
    model: folder that `experiments.export.smollm2` has written.
    data: folder of the rows.
    tasks, methods, seeds: what is combined; 'lora-8' is LoRA of rank 8.
    steps, batch: of a run.
    rows: that a run is scored on.
    answers: of these, how many are generated and scored; 0: none.
    dtype: of the frozen weights.
    rates: that a search tries.
  tune: search rates instead.
  """

  model: str = ''
  data: str = ''
  tasks: tuple[Literal[*TASKS], ...] = tuple(TASKS)
  methods: tuple[Literal[*METHODS], ...] = METHODS
  seeds: tuple[int, ...] = (0, 1, 2)
  steps: int = 40
  batch: int = 8
  rows: int = 256
  answers: int = 16
  dtype: str = 'bfloat16'
  rates: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3)
  tune: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
  """One run."""

  kind: str
  task: str
  method: str
  seed: int
  rate: float
  steps: int
  batch: int
  rows: int
  dtype: str


def cases(run: Run) -> Iterator[Case]:
  """The runs of a search, or those at the rates that it has found."""
  options = run.options
  size = options.steps, options.batch, options.rows, options.dtype
  for task, method in itertools.product(options.tasks, options.methods):
    if options.tune:
      for rate in options.rates:
        yield Case('tune', task, method, TUNING_SEED, rate, *size)
    else:
      rate = best_rate(run, task, method)
      for seed in options.seeds:
        yield Case('run', task, method, seed, rate, *size)


def best_rate(run: Run, task: str, method: str) -> float:
  """The rate with the lowest loss on held-out rows.

  LoRA of a rank that was not searched takes the rate of the ranks that were.
  """
  options = run.options
  like = {'kind': 'tune', 'task': task, 'figure': 'held-out loss'}
  like |= {'steps': options.steps, 'batch': options.batch, 'dtype': options.dtype}
  tried = [one for one in matching(run.results.rows(), like) if one['value']]
  own = [one for one in tried if one['method'] == method] or [
    one for one in tried if one['method'].split('-')[0] == method.split('-')[0]
  ]
  return min(own, key=lambda one: one['value'])['rate'] if own else _RATE


def config_of(options: Options, case: Case) -> FinetuneConfig:
  """The recipe of configs/sft.py, evaluated once at the end: nothing is selected."""
  return finetune_config(values_of(options, case))


def changed_config(
  options: Options, case: Case, changes: Mapping[str, Any]
) -> FinetuneConfig:
  """The same with other values of fields, which are named by dots."""
  config = ConfigDict(values_of(options, case))
  config.update_from_flattened_dict(changes)
  return finetune_config(config.to_dict())


def values_of(options: Options, case: Case) -> dict[str, Any]:
  """The same as groups of fields, which may be changed."""
  task, folder = TASKS[case.task], pathlib.Path(options.data)
  config = get_config('smollm2').to_dict()
  name, _, rank = case.method.partition('-')
  config |= {'method': name, 'seed': case.seed}
  if rank:
    config['lora'] |= {'rank': int(rank)}
  # Thirty layers one by one: on a CPU a loop over them takes longer in bfloat16, whose
  # saved activations XLA converts as a whole for every layer.
  config['model'] |= {'source': options.model, 'dtype': case.dtype, 'scan': False}
  is_search = case.kind == 'tune'
  config['data'] |= {
    'train': str(folder / task.train),
    'validation': '' if is_search else str(folder / task.test),
    'holdout': _HOLDOUT if is_search else 0.0,
    'max_length': task.length,
    'max_eval_rows': case.rows,
  }
  config['data']['generation'] |= {
    'samples': 0,
    'answer': '' if is_search or not options.answers else task.answer,
    'scored': options.answers,
    'max_new_tokens': task.new_tokens,
  }
  config['optimizer'] |= {'learning_rate': case.rate}
  config['train'] |= {
    'steps': case.steps,
    'batch': case.batch,
    'evaluations': 1,
    'buckets': task.buckets,
    'curve_rows': 0,
    'curve_from': 0 if case.method == 'adapad' and not is_search else 64,
  }
  return config


def trained(config: FinetuneConfig) -> dict[str, Any]:
  """The result of a run whose workdir nobody needs."""
  keep_compiled()
  with tempfile.TemporaryDirectory() as folder:
    return train(config, pathlib.Path(folder) / 'run')


def measure(run: Run, case: Case) -> Iterator[Row]:
  """Loss and share of right answers, of prefixes and of the model as it was too."""
  found = trained(config_of(run.options, case))
  metrics = found['last']['metrics']
  prefixes = [one or {} for one in found['prefix_metrics']]
  yield row(
    'held-out loss',
    metrics['loss'],
    'nats a token',
    **dataclasses.asdict(case),
    exact_match=metrics.get('exact_match'),
    token_accuracy=metrics['token_accuracy'],
    prefixes=[one.get('loss') for one in prefixes],
    prefix_matches=[one.get('exact_match') for one in prefixes],
    adapter_parameters=found['adapter_parameters'],
    seconds=round(found['seconds'], 1),
    device=jax.devices()[0].device_kind,
  )


def table(run: Run) -> str:
  """For each task the search, every method at its rate beside AdaPaD, and prefixes."""
  rows = matching(run.results.rows(), {'steps': run.options.steps})
  parts = []
  for task in run.options.tasks:
    of_kind = lambda kind, task=task: matching(rows, {'kind': kind, 'task': task})
    tables = [
      make(own)
      for kind, make in (('tune', _of_search), ('run', _of_task), ('run', _of_prefixes))
      if (own := of_kind(kind))
    ]
    parts += [f'{task}:', *filter(None, tables)] if tables else []
  return '\n\n'.join(parts) or 'no such runs yet'


def _of_task(rows: Sequence[Row]) -> str:
  losses = {
    method: {one['seed']: one['value'] for one in rows if one['method'] == method}
    for method in METHODS
  }
  lines = []
  for method in METHODS:
    own = [one for one in rows if one['method'] == method]
    if not own:
      continue
    matches = [
      100 * one['exact_match'] for one in own if one['exact_match'] is not None
    ]
    lines.append(
      [
        method,
        f'{own[0]["rate"]:g}',
        mean_sd([*losses[method].values()], 4),
        mean_sd(matches) if matches else '',
        paired_text(losses['adapad'], losses[method]) if method != 'adapad' else '',
        f'{own[0]["adapter_parameters"]:,}',
      ]
    )
  head = ['method', 'rate', 'held-out loss', 'exact match, %', 'adapad minus it']
  return markdown([*head, 'parameters'], lines)


def _of_prefixes(rows: Sequence[Row]) -> str:
  """Runs of AdaPaD cut to so many components a module, beside LoRA of that rank."""
  own = matching(rows, {'method': 'adapad'})
  if not own:
    return ''
  lines = []
  for rank in range(max(len(one['prefixes']) for one in own)):
    beside = matching(rows, {'method': f'lora-{rank}'})
    lines.append(
      [
        str(rank),
        f'{np.mean([one["prefixes"][rank] for one in own]):.4f}',
        mean_sd([100 * (one['prefix_matches'][rank] or 0) for one in own]),
        f'{np.mean([one["value"] for one in beside]):.4f}' if beside else '',
        mean_sd([100 * (one['exact_match'] or 0) for one in beside]) if beside else '',
      ]
    )
  head = ['components', 'one run of AdaPaD', 'exact match, %', 'LoRA of that rank']
  return markdown([*head, 'exact match, %'], lines)


def _of_search(rows: Sequence[Row]) -> str:
  """Held-out loss by rate; a rate that a method was not tried at is left empty."""
  losses = {(one['method'], one['rate']): one['value'] for one in rows}
  methods = [method for method in METHODS if any(method == m for m, _ in losses)]
  rates = sorted({rate for _, rate in losses})
  cell = lambda loss: '' if loss is None else f'{loss:.4f}'
  lines = [[m, *(cell(losses.get((m, rate))) for rate in rates)] for m in methods]
  return markdown(['method', *(f'{rate:g}' for rate in rates)], lines)


EXPERIMENT = Experiment(
  'sft.comparison',
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
