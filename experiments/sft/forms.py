"""What training on a base of eight or four bits costs in held-out loss.

  python -m experiments.sft.forms --model=MODEL --data=FOLDER

AdaPaD on SmolLM2-135M-Instruct and rows of GSM8K, with the same steps and seeds
whatever the form of the frozen kernels; MODEL and FOLDER are those of `sft.comparison`.
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal

from adapad_jax.training import FinetuneConfig
from experiments import timing
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, matching, row
from experiments.sft import comparison
from experiments.tables import markdown, paired_text

FORMS = ('', 'bfloat16', 'int8', 'nf4')


@dataclasses.dataclass(frozen=True)
class Options:
  """What is trained.

  Attributes:
    model, data: see `sft.comparison`.
    forms: of `model.weights`; '' is float32.
    seeds: of the runs.
    rate, steps, batch: of all of them.
    rows: of the test file that they are scored on.
  """

  model: str = ''
  data: str = ''
  forms: tuple[Literal[*FORMS], ...] = ('', 'nf4')
  seeds: tuple[int, ...] = (0, 1)
  rate: float = 1e-3
  steps: int = 20
  batch: int = 8
  rows: int = 96


@dataclasses.dataclass(frozen=True)
class Case:
  """One run."""

  seed: int
  weights: str
  rate: float
  steps: int
  batch: int
  rows: int


def cases(run: Run) -> Iterator[Case]:
  """Seed by seed, so that whatever is there can be compared."""
  o = run.options
  for seed in o.seeds:
    for form in o.forms:
      yield Case(seed, form, o.rate, o.steps, o.batch, o.rows)


def config_for(run: Run, case: Case) -> FinetuneConfig:
  """The comparison's run of AdaPaD on GSM8K, with the kernels in this form."""
  options = comparison.Options(run.options.model, run.options.data, answers=0)
  about = dict(kind='run', task='gsm8k', method='adapad', dtype='float32')
  fields = ('seed', 'rate', 'steps', 'batch', 'rows')
  about |= {name: getattr(case, name) for name in fields}
  config = comparison.config_of(options, comparison.Case(**about))
  # One layer is compiled and not thirty: in float32 that is no slower.
  model = dataclasses.replace(config.model, weights=case.weights, scan=True)
  # No prefix is scored.
  whole = dataclasses.replace(config.train, curve_from=64)
  return dataclasses.replace(config, model=model, train=whole)


def measure(run: Run, case: Case) -> Iterator[Row]:
  """The loss on rows of the test file at the end."""
  found = comparison.trained(config_for(run, case))
  yield row(
    'held-out loss',
    found['last']['metrics']['loss'],
    'nats a token',
    **dataclasses.asdict(case),
    seconds=round(found['seconds'], 1),
    peak_gib=timing.peak_bytes() / 2**30,
    processor=timing.processor(),
  )


def table(run: Run) -> str:
  """A line for each form, and its difference from float32 over the same seeds."""
  like = {name: getattr(run.options, name) for name in ('steps', 'batch', 'rows')}
  rows = matching(run.results.rows(), like)
  losses = {
    form: {one['seed']: one['value'] for one in rows if one['weights'] == form}
    for form in FORMS
  }
  lines = [
    [
      form or 'float32',
      ', '.join(f'{own[seed]:.4f}' for seed in sorted(own)),
      paired_text(own, losses['']) if form else '',
    ]
    for form, own in losses.items()
    if own
  ]
  return markdown(['weights', 'held-out loss by seed', 'minus float32'], lines)


EXPERIMENT = Experiment(
  'sft.forms',
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
