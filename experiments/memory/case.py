"""One run of a few rounds in a process of its own: what was expected, what it took.

  python -m experiments.memory.case estimate '{"model": "MiniLM", "rows": 32, ...}'
  python -m experiments.memory.case run '{"model": "MiniLM", "rows": 32, ...}'

The last line of its output is a JSON object. A process of its own makes the peak that
of the run; the second call finds what the first has compiled.
"""

import csv
import dataclasses
import json
import pathlib
import resource
import sys
import tempfile
from typing import Any

import jax
import numpy as np

from adapad_jax.training import finetune_config, make_plan, train
from adapad_jax.training.config import FinetuneConfig
from adapad_jax.training.memory import estimate, resident_bytes
from experiments.training_steps import CONFIGS

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
    'adapad': {
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
  # As in `measure`, what comes in with any program is not counted.
  with tempfile.TemporaryDirectory() as folder:
    estimate(make_plan(_config(_tiny(case), pathlib.Path(folder))))
  with tempfile.TemporaryDirectory() as folder:
    memory = estimate(make_plan(_config(case, pathlib.Path(folder))))
  return dataclasses.asdict(memory) | {'peak': memory.peak}


def measure(case: Case) -> dict[str, Any]:
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


if __name__ == '__main__':
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  found = {'estimate': expect, 'run': measure}[sys.argv[1]]
  print(json.dumps(found(Case(**json.loads(sys.argv[2])))), flush=True)
