"""What of AdaPaD's recipe costs or gains on a decoder: one thing changed at a time.

  python -m experiments.sft.screening --model=MODEL --data=FOLDER --jobs=2
  python -m experiments.sft.screening --table

Short runs of SmolLM2-135M on GSM8K as in `experiments.sft.comparison`, scored by the
loss on rows held out of the training set, with seeds that no comparison uses. All runs
of a seed see the same batches, so that variants are compared seed by seed. LoRA gets
every change that is not deflation.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from adapad_jax.training import FinetuneConfig
from experiments import timing
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, matching, row
from experiments.sft import comparison
from experiments.tables import markdown, mean_sd, paired_text

_FIRST_SEED = 1000
# What is tried, as dotted fields of the config.
VARIANTS: dict[str, dict[str, Any]] = {
  'LoRA of rank 2': {'method': 'lora', 'lora.rank': 2},
  'LoRA of rank 2 from the gradient': {
    'method': 'lora',
    'lora.rank': 2,
    'lora.gradient_batches': 8,
  },
  'recipe': {},
  'recipe with half of the rows joint': {'adapad.joint': 0.5},
  'recipe with half of the rows joint from the gradient': {
    'adapad.joint': 0.5,
    'adapad.gradient_batches': 8,
  },
  'recipe with every row joint': {'adapad.polish': 0.999},
  'recipe with every row joint from the gradient': {
    'adapad.polish': 0.999,
    'adapad.gradient_batches': 8,
  },
  'recipe with every row joint and rank 2 at once': {
    'adapad.polish': 0.999,
    'adapad.r_max': 2,
    **comparison.AT_ONCE,
  },
  'recipe with half of the rows nested': comparison.HALF_NESTED,
  'recipe with half of the rows nested and rank 2 at once': {
    **comparison.HALF_NESTED,
    'adapad.r_max': 2,
    **comparison.AT_ONCE,
  },
  'recipe with every row nested': {'adapad.nested': 1.0},
  'recipe with the last half joint': {'adapad.polish': 0.5},
  'recipe without advance learning': {'adapad.advance': False},
  'recipe with r_max 2': {'adapad.r_max': 2},
  'every row deflates': {'adapad.joint': 0.0, 'adapad.polish': 0.0},
}


@dataclasses.dataclass(frozen=True)
class Options:
  """What is trained.

  Attributes:
    model: folder that `experiments.export.smollm2` has written.
    data: folder of the rows.
    task: of `comparison.TASKS`.
    variants: names of `VARIANTS`.
    seeds: counted from those of the search on.
    rate: of all.
    steps, batch: of a run.
    rows: that a run is scored on.
    dtype: of the frozen weights.
  """

  model: str = ''
  data: str = ''
  task: Literal[*comparison.TASKS] = 'gsm8k'
  variants: tuple[Literal[*VARIANTS], ...] = tuple(VARIANTS)
  seeds: tuple[int, ...] = (0, 1, 2)
  rate: float = 4e-3
  steps: int = 40
  batch: int = 8
  rows: int = 256
  dtype: str = 'bfloat16'


@dataclasses.dataclass(frozen=True)
class Case:
  """One run."""

  variant: str
  task: str
  seed: int
  rate: float
  steps: int
  batch: int
  rows: int
  dtype: str


def cases(run: Run) -> Iterator[Case]:
  """All variants with one seed, then with the next."""
  o = run.options
  for seed in o.seeds:
    for variant in o.variants:
      size = o.rate, o.steps, o.batch, o.rows, o.dtype
      yield Case(variant, o.task, _FIRST_SEED + seed, *size)


def config_of(options: Options, case: Case) -> FinetuneConfig:
  """That of a search in `comparison`, with what the variant changes."""
  fields = dataclasses.asdict(case)
  fields |= {'kind': 'tune', 'method': 'adapad'}
  del fields['variant']
  where = comparison.Options(model=options.model, data=options.data)
  plain = comparison.Case(**fields)
  return comparison.changed_config(where, plain, VARIANTS[case.variant])


def measure(run: Run, case: Case) -> Iterator[Row]:
  """Loss on held-out rows at the end."""
  found = comparison.trained(config_of(run.options, case))
  metrics = found['last']['metrics']
  yield row(
    'held-out loss',
    metrics['loss'],
    'nats a token',
    **dataclasses.asdict(case),
    token_accuracy=metrics['token_accuracy'],
    adapter_parameters=found['adapter_parameters'],
    seconds=round(found['seconds'], 1),
    device=jax.devices()[0].device_kind,
    processor=timing.processor(),
  )


def table(run: Run) -> str:
  """Every variant beside LoRA of rank 2, lowest loss first."""
  o = run.options
  rows = matching(
    run.results.rows(), {'task': o.task, 'steps': o.steps, 'rate': o.rate}
  )
  found = {
    variant: {one['seed']: one['value'] for one in rows if one['variant'] == variant}
    for variant in VARIANTS
  }
  found = {variant: by_seed for variant, by_seed in found.items() if by_seed}
  plain = found.get(next(iter(VARIANTS)), {})
  order = sorted(found, key=lambda variant: float(np.mean([*found[variant].values()])))
  lines = [_line(variant, found[variant], plain) for variant in order]
  head = ['variant', 'seeds', 'held-out loss', 'minus LoRA of rank 2']
  return markdown(head, lines)


def _line(
  variant: str, by_seed: dict[int, float], plain: dict[int, float]
) -> Sequence[str]:
  beside = paired_text(by_seed, plain) if by_seed is not plain else ''
  return [variant, str(len(by_seed)), mean_sd([*by_seed.values()], 4), beside]


EXPERIMENT = Experiment(
  'sft.screening',
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
