"""Memory and step time of decoders whose frozen weights are held in fewer bits.

  python -m experiments.speed.forms [--models=SmolLM2-135M] [--rows=8] [--length=128]

An AdaPaD `split` step of each model in float32, in bfloat16, and in float32 with
kernels of eight and four bits, each in a process of its own: the peak is that of the
process, or of the card where JAX sees one. Random weights: neither depends on them.
"""

import dataclasses
from collections.abc import Iterator

import jax

from experiments import timing
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row
from experiments.speed.case import Case, timed
from experiments.speed.training_steps import our_outline
from experiments.tables import markdown

# Form of the weights: (dtype of products, `model.weights`).
FORMS = {
  'float32': ('float32', ''),
  'bfloat16': ('bfloat16', ''),
  'int8': ('float32', 'int8'),
  'nf4': ('float32', 'nf4'),
}
_TIME = 'AdaPaD split step by form of the weights'


@dataclasses.dataclass(frozen=True)
class Options:
  """What is measured.

  Attributes:
    models: names of `training_steps.CONFIGS`.
    rows, length: of a batch.
    seconds: to time for, at least.
  """

  models: tuple[str, ...] = ('SmolLM2-135M', 'Qwen3-0.6B')
  rows: int = 8
  length: int = 128
  seconds: float = 10.0


@dataclasses.dataclass(frozen=True)
class Form:
  """A model with its weights in one form."""

  model: str
  form: str
  rows: int
  length: int


def cases(run: Run) -> list[Form]:
  """Every model in every form."""
  options = run.options
  size = options.rows, options.length
  return [Form(model, form, *size) for model in options.models for form in FORMS]


def key(run: Run, case: Form) -> dict[str, object]:
  """A form is measured once on a kind of processor."""
  return dataclasses.asdict(case) | {'processor': timing.processor()}


def measure(run: Run, case: Form) -> Iterator[Row]:
  """The step alone: its median time and the peak of its process."""
  dtype, weights = FORMS[case.form]
  what = Case(
    case.model,
    rows=case.rows,
    length=case.length,
    dtype=dtype,
    weights=weights,
    scan=True,
    seconds=run.options.seconds,
  )
  found = timed(what)
  held = our_outline(case.model, dtype=dtype, weights=weights, scan=True).model
  yield row(
    _TIME,
    found['step_ms'],
    'ms',
    **dataclasses.asdict(case),
    weights_mib=sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(held)) / 2**20,
    **{name: found[name] for name in ('peak_gib', 'peak_of', 'device', 'losses')},
    processor=timing.processor(),
  )


def table(run: Run) -> str:
  """A line for each model and form."""
  lines = [
    [
      one['model'],
      one['form'],
      f'{one["rows"]} x {one["length"]}',
      f'{one["weights_mib"]:,.0f}',
      f'{one["peak_gib"]:.2f}',
      f'{one["value"] / 1e3:.2f}',
    ]
    for one in run.results.rows()
  ]
  head = ['model', 'weights', 'tokens', 'weights, MiB', 'peak, GiB', 'step, s']
  return markdown(head, lines)


EXPERIMENT = Experiment(
  'speed.forms', Options(), measure, cases, key, table, own_process=True
)

if __name__ == '__main__':
  main(EXPERIMENT)
