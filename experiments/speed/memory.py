"""How far the estimate of a run's memory is from what the run takes.

  python -m experiments.speed.memory
  python -m experiments.speed.memory --model=DeBERTa-v3-base --dtype=bfloat16 --rows=64

On a GPU the peak is that of the device's allocator; on the CPU it is what the process
grows by, after a run of a tiny model has brought the libraries in. Estimate and run
have a process each, of which the second finds what the first has compiled.
"""

import csv
import dataclasses
import json
import pathlib
import resource
import tempfile
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np

from adapad_jax.training import finetune_config, make_plan, train
from adapad_jax.training.config import FinetuneConfig
from adapad_jax.training.memory import estimate, resident_bytes
from experiments import processes, timing
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row
from experiments.speed.training_steps import CONFIGS, DEFLATING

_TINY = 'tiny'
_CONFIGS = CONFIGS | {
  _TINY: CONFIGS['MiniLM']
  | dict(
    vocab_size=128,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    intermediate_size=8,
  )
}
_WORDS = [f'w{i}' for i in range(100)]


@dataclasses.dataclass(frozen=True)
class Options:
  """The first case: a model, rows and length of a batch, and the dtype of weights."""

  model: str = 'MiniLM'
  rows: int = 16
  length: int = 128
  dtype: Literal['float32', 'bfloat16'] = 'float32'


@dataclasses.dataclass(frozen=True)
class Case:
  """What is trained.

  Attributes:
    model: a name of `training_steps.CONFIGS`, with random weights.
    method: of `methods.METHODS`.
    feeding, rank: of adapad, all components of every module being given out at once;
      the others keep their own rank.
    rows, length: of a batch, in training and in evaluation.
    accumulate, remat, dtype: see `TrainConfig` and `ModelConfig`.
  """

  model: str = 'MiniLM'
  method: str = 'adapad'
  feeding: str = 'split'
  rank: int = 4
  rows: int = 32
  length: int = 128
  accumulate: int = 1
  remat: bool = False
  dtype: str = 'float32'


def write_inputs(case: Case, folder: pathlib.Path) -> None:
  """A model's config, a vocabulary, and texts that fill `length` tokens each."""
  (folder / 'config.json').write_text(json.dumps(_CONFIGS[case.model]))
  special = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
  (folder / 'vocab.txt').write_text('\n'.join((*special, *_WORDS)) + '\n')
  kind = {'tokenizer_class': 'BertTokenizer', 'model_max_length': case.length}
  (folder / 'tokenizer_config.json').write_text(json.dumps(kind))
  rng = np.random.default_rng(0)
  for name in ('train', 'validation'):
    with (folder / f'{name}.csv').open('w', newline='') as file:
      writer = csv.writer(file)
      writer.writerow(['text', 'label'])
      for row in range(2 * case.rows):
        writer.writerow([' '.join(rng.choice(_WORDS, case.length - 2)), 'ab'[row % 2]])


def settings(case: Case, folder: pathlib.Path) -> dict[str, Any]:
  """A run just long enough for every component to train."""
  modules = 6 * _CONFIGS[case.model]['num_hidden_layers']
  return {
    'method': case.method,
    'data': {
      'task': 'classification',
      'path': str(folder),
      'max_length': case.length,
    },
    'model': {
      'source': str(folder),
      'random_weights': True,
      'dtype': case.dtype,
      'remat': case.remat,
    },
    'train': {
      'batch': case.rows,
      'steps': case.rank + 3,
      'accumulate': case.accumulate,
      'eval_batch': case.rows,
      'evaluations': 1,
    },
    'adapad': DEFLATING
    | {
      'feeding': case.feeding,
      'r_max': case.rank,
      'budget': case.rank * modules,
      'grants_per_event': modules,
      'start': 1,
      'interval': 1,
    },
    'mesh': {'worker': 1, 'data': 1, 'model': 1},
  }


def expect(case: Case) -> dict[str, Any]:
  """The estimate of the case, in bytes."""
  # As in `taken`, what comes in with any program is not counted.
  with tempfile.TemporaryDirectory() as folder:
    estimate(make_plan(_config(_tiny(case), pathlib.Path(folder))))
  with tempfile.TemporaryDirectory() as folder:
    memory = estimate(make_plan(_config(case, pathlib.Path(folder))))
  return dataclasses.asdict(memory) | {'peak': memory.peak}


def taken(case: Case) -> dict[str, Any]:
  """The peak of a run, in bytes: of the device, or beyond what the process had."""
  # Libraries come in with the first run, whatever its size.
  _run(_tiny(case))
  before = resident_bytes()
  result = _run(case)
  device = jax.devices()[0]
  stats = device.memory_stats()
  return {
    'device': device.device_kind,
    'peak': stats['peak_bytes_in_use'] if stats else _most_resident() - before,
    'peak_of': 'device' if stats else 'process',
    'rank_total': result['rank_total'],
  }


def _tiny(case: Case) -> Case:
  """The case with next to no model."""
  return dataclasses.replace(case, model=_TINY, rows=case.accumulate * case.rank)


def _run(case: Case) -> dict[str, Any]:
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    return train(_config(case, folder), folder / 'run')


def _config(case: Case, folder: pathlib.Path) -> FinetuneConfig:
  write_inputs(case, folder)
  return finetune_config(settings(case, folder))


def _most_resident() -> int:
  """The most bytes that were in memory at once."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cases(run: Run) -> list[Case]:
  """Every way of training that changes what is held."""
  options = run.options
  base = Case(options.model, rows=options.rows, length=options.length)
  base = dataclasses.replace(base, dtype=options.dtype)
  changes = [
    {},
    {'rows': 2 * base.rows},
    {'feeding': 'replicate', 'rank': 2},
    {'accumulate': 4},
    {'remat': True},
    {'method': 'lora'},
    {'method': 'full'},
  ]
  return [dataclasses.replace(base, **one) for one in changes]


def key(run: Run, case: Case) -> dict[str, Any]:
  """A case is measured once on a kind of device."""
  return dataclasses.asdict(case) | {'device': timing.device()}


def measure(run: Run, case: Case) -> Iterator[Row]:
  """The estimate over the peak that was measured, either in a process of its own."""
  with tempfile.TemporaryDirectory() as cache:
    env = {
      'JAX_COMPILATION_CACHE_DIR': cache,
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
    }
    expected = processes.call(expect, case, env=env)
    found = processes.call(taken, case, env=env)
  mib = lambda size: round(size / 2**20, 1)
  yield row(
    'estimated peak of memory over the measured one',
    round(expected['peak'] / found['peak'], 4),
    '',
    **dataclasses.asdict(case),
    estimated_mib=mib(expected.pop('peak')),
    measured_mib=mib(found.pop('peak')),
    parts_mib={name: mib(size) for name, size in expected.items()},
    **found,
  )


EXPERIMENT = Experiment('speed.memory', Options(), measure, cases, key)

if __name__ == '__main__':
  main(EXPERIMENT)
