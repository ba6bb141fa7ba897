"""Which devices the recipe of instruction tuning fits, by the size of the model.

  python -m experiments.speed.fits

The table that `--dry_run` prints, for models of released sizes and every form of frozen
weights: rows that fill `--length` tokens, weights and rows shared by all devices. It is
worked out from config.json, without weights and without these devices. Beside it, the
same for the steps whose peak `speed.steps` has measured on a card.
"""

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import jax

from adapad_jax.training import finetune_config, make_plan
from adapad_jax.training.fits import CARDS, DEVICES, needs, verdict
from adapad_jax.training.plan import Plan
from configs.sft import get_config
from experiments.harness import HERE, Experiment, Run, main
from experiments.results import Results, Row, matching, row
from experiments.speed import memory
from experiments.speed.training_steps import CONFIGS
from experiments.tables import markdown
from tests.tasks.sft import toy

# config.json of the released models, as far as it decides what is computed.
_MODELS: dict[str, dict[str, Any]] = {
  'Qwen3-0.6B': CONFIGS['Qwen3-0.6B'],
  'Qwen2.5-7B': dict(
    model_type='qwen2',
    vocab_size=152064,
    hidden_size=3584,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    intermediate_size=18944,
    max_position_embeddings=131072,
    rms_norm_eps=1e-6,
    rope_theta=1e6,
    use_sliding_window=False,
    tie_word_embeddings=False,
  ),
  'Llama-3.1-70B': dict(
    model_type='llama',
    vocab_size=128256,
    hidden_size=8192,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
    intermediate_size=28672,
    max_position_embeddings=131072,
    rms_norm_eps=1e-5,
    rope_theta=5e5,
    rope_scaling={
      'rope_type': 'llama3',
      'factor': 8.0,
      'low_freq_factor': 1.0,
      'high_freq_factor': 4.0,
      'original_max_position_embeddings': 8192,
    },
    tie_word_embeddings=False,
  ),
}
# What is computed in, and what frozen kernels are held in.
_FORMS = {
  'float32': ('float32', ''),
  'bfloat16': ('bfloat16', ''),
  'int8': ('bfloat16', 'int8'),
  'nf4': ('bfloat16', 'nf4'),
}
_FIGURE = 'memory that a device needs'
_CHECK = 'memory by tracing over the peak on a card'
# Steps of `speed.steps` on a card -> the method.
_MEASURED = {
  'split r=4 step of DeBERTa-v3-base, 32 x 128 tokens, bfloat16': 'adapad',
  'lora r=4 step of DeBERTa-v3-base, 32 x 128 tokens, bfloat16': 'lora',
}


@dataclasses.dataclass(frozen=True)
class Options:
  """What is planned.

  Attributes:
    models: of the sizes above.
    method: of `methods.METHODS`.
    batch: rows of a step, in training and in evaluation.
    length: tokens of every row.
  """

  models: tuple[str, ...] = tuple(_MODELS)
  method: str = 'adapad'
  batch: int = 16
  length: int = 1024


@dataclasses.dataclass(frozen=True)
class Case:
  """A model and the form of its weights."""

  model: str
  weights: str
  method: str
  batch: int
  length: int


@dataclasses.dataclass(frozen=True)
class Check:
  """A step whose peak was measured on a card: what it is called there."""

  step: str


def cases(run: Run) -> list[Case | Check]:
  """Every model in every form; then what was measured."""
  return [*_sizes(run), *map(Check, _MEASURED)]


def _sizes(run: Run) -> list[Case]:
  options = run.options
  size = (options.method, options.batch, options.length)
  return [Case(model, form, *size) for model in options.models for form in _FORMS]


def _plan(case: Case, folder: pathlib.Path) -> Plan:
  model = folder / 'model'
  toy.tokenizer(toy.CHATML, eos='<|im_end|>').save_pretrained(model)
  (model / 'config.json').write_text(json.dumps(_MODELS[case.model]))
  full = {'prompt': 'Hello', 'completion': ' Hello' * case.length}
  toy.write_rows(folder / 'train.jsonl', [full] * (2 * case.batch))
  config = get_config()
  config.method = case.method
  config.data.train, config.data.holdout = str(folder / 'train.jsonl'), 0.5
  config.data.max_length = case.length
  config.data.cache = str(folder / 'cache')
  config.model.source = str(model)
  config.model.dtype, config.model.weights = _FORMS[case.weights]
  config.train.batch = config.train.eval_batch = case.batch
  return make_plan(finetune_config(config.to_dict()), needs_weights=False)


def _check(step: str) -> Row:
  """The estimate of a step beside the peak of a card's allocator."""
  steps = matching(Results(HERE / 'speed/results/steps.jsonl').rows(), {'figure': step})
  (found,) = [one for one in steps if one.get('peak_of') == 'device']
  method = _MEASURED[step]
  size = dict(rows=32, length=128, dtype='bfloat16', method=method)
  case = memory.Case('DeBERTa-v3-base', **size)
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    memory.write_inputs(case, folder)
    values = memory.settings(case, folder)
    values['model']['scan'] = found['scan']
    traced = needs(make_plan(finetune_config(values | {'lora': {'rank': 4}})), 1)
  # A step alone was taken there, without an evaluation.
  peak = (traced.weights + traced.state + traced.batches + traced.round) / 2**30
  measured = {'traced_gib': round(peak, 3), 'measured_gib': round(found['peak_gib'], 3)}
  ratio = round(peak / found['peak_gib'], 4)
  return row(_CHECK, ratio, '', step=step, device=found['device'], **measured)


def measure(run: Run, case: Case | Check) -> Iterator[Row]:
  """The memory of a device, for each number of devices."""
  if isinstance(case, Check):
    yield _check(case.step)
    return
  with tempfile.TemporaryDirectory() as scratch:
    plan = _plan(case, pathlib.Path(scratch))
    parameters = sum(x.size for x in jax.tree.leaves(plan.outlined.model))
    for devices in DEVICES:
      found = needs(plan, devices)
      gib = lambda size: round(size / 2**30, 2)
      yield row(
        _FIGURE,
        gib(found.peak),
        'GiB',
        **dataclasses.asdict(case),
        devices=devices,
        # What is packed has codes and scales in place of parameters.
        parameters=None if plan.config.model.weights else parameters,
        parts_gib={k: gib(v) for k, v in dataclasses.asdict(found).items()},
        fits={f'{card} GB': verdict(found, card) for card in CARDS},
      )


def key(run: Run, case: Case | Check) -> dict[str, Any]:
  """A case is worked out once."""
  return dataclasses.asdict(case)


def table(run: Run) -> str:
  """A line a model and form, a column a number of devices; then what was measured."""
  wanted = [dataclasses.asdict(case) for case in _sizes(run)]
  rows = run.results.rows()
  lines = []
  for case in wanted:
    mine = [r for r in rows if all(r.get(k) == v for k, v in case.items())]
    by_devices = {r['devices']: r for r in mine}
    cells = [_cell(by_devices.get(devices)) for devices in DEVICES]
    lines.append([case['model'], case['weights'], *cells])
  one = lambda n: f'{n} device{"s" if n > 1 else ""}'
  sizes = markdown(['model', 'weights', *map(one, DEVICES)], lines)
  names = ('step', 'device', 'traced_gib', 'measured_gib', 'value')
  checks = [
    [str(r[name]) for name in names] for r in matching(rows, {'figure': _CHECK})
  ]
  return f'{sizes}\n\n{markdown([*names[:-1], "ratio"], checks)}'


def _cell(found: Row | None) -> str:
  """'12.3: 24 GB, 80 GB', barely in brackets."""
  if found is None:
    return ''
  shown = {'yes': '{}', 'barely': '({})'}
  fit = [shown[v].format(card) for card, v in found['fits'].items() if v in shown]
  return f'{found["value"]:.1f}: {", ".join(fit) or "no"}'


EXPERIMENT = Experiment('speed.fits', Options(), measure, cases, key, table)

if __name__ == '__main__':
  main(EXPERIMENT)
