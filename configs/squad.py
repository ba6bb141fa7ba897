"""SQuAD v1.1 and v2.0: questions about passages.

  python -m adapad_jax.main --config=configs/squad.py:v1,minilm \\
      --config.data.train=train-v1.1.json --config.data.validation=dev-v1.1.json

marks answers with all-MiniLM-L6-v2 from a Python package, here from the official
files. `quick` instead of `minilm`
cuts data and steps to a minute or two.

  python -m adapad_jax.main --config=configs/squad.py:v1
  python -m adapad_jax.main --config=configs/squad.py:v2

train the paper's decoder, Qwen3-0.6B, to generate the answer, in v2.0 'unanswerable'
where the passage has none. The same with `,encoder` trains
DeBERTaV3-base to mark it. Both need the hub and an accelerator. `,decoder,span` puts
the span head on the decoder instead.

  python -m adapad_jax.main --mode=predict --workdir=runs/squad-adapad-0 \\
      --input=mine.json --output=predictions.json

answers one's own questions: a list of objects with 'question' and 'context', or the
official layout. `published`: see configs/glue.py.
"""

import difflib

import ml_collections

from configs.common import MINILM, defaults, one_of, parse, published

TASKS = {'v1': 'squad', 'v2': 'squad_v2'}


def get_config(arg: str = 'v1') -> ml_collections.ConfigDict:
  """Options: a version, `encoder`, `decoder` or `minilm`, `span`, `quick` and
  `published`."""
  options = parse(
    arg,
    version='v1',
    encoder=False,
    decoder=False,
    minilm=False,
    span=False,
    quick=False,
    published=False,
  )
  if options.version not in TASKS:
    near = difflib.get_close_matches(options.version, TASKS, n=1)
    hint = f'; did you mean {near[0]!r}?' if near else ''
    raise ValueError(
      f'unknown version {options.version!r}; choose from {sorted(TASKS)}{hint}'
    )
  chosen = one_of(options, 'encoder', 'decoder', 'minilm')
  model = chosen or ('minilm' if options.quick else 'decoder')
  config = defaults()
  if options.published:
    published(config)
  config.data.task = TASKS[options.version]
  config.data.max_length = 384
  config.train.buckets = (192, 256)
  {'encoder': _encoder, 'decoder': _decoder, 'minilm': _minilm}[model](config)
  if options.span:
    config.data.qa.answer = 'span'
  if options.quick:
    _quick(config)
  return config


def _encoder(config: ml_collections.ConfigDict) -> None:
  """DeBERTaV3-base, 72 modules, as IncreLoRA's script for SQuAD v2.0 has it.

  https://github.com/FeiyuZhang98/IncreLoRA: two components a module, growing by one
  every thousand steps; LoRA's alpha 16 over its usual rank 8.
  """
  config.model.source = 'microsoft/deberta-v3-base'
  config.train.batch = 16
  config.train.epochs = 14.0
  _rates(config, 1e-3, 1e-3)
  config.optimizer.warmup = config.head_optimizer.warmup = 1000.0
  config.adapter.scale = 2.0
  config.adapad.start = config.adapad.interval = 1000
  config.adapad.grants_per_event = 1


def _decoder(config: ml_collections.ConfigDict) -> None:
  """Qwen3-0.6B in bfloat16; the rates are ours, the paper states none."""
  config.model.source = 'Qwen/Qwen3-0.6B'
  config.model.dtype = 'bfloat16'
  config.model.scan = config.model.remat = True
  config.data.qa.answer = 'generate'
  config.data.max_length = 512
  config.train.buckets = (256, 384)
  config.train.batch = 16
  config.train.epochs = 2.0
  _rates(config, 5e-4, 5e-4)


def _minilm(config: ml_collections.ConfigDict) -> None:
  """MiniLM for two epochs, in rows that fit two CPU cores."""
  config.model.source = MINILM
  config.data.max_length = 256
  config.data.qa.overlap = 96
  config.data.qa.max_question = 48
  config.train.epochs = 2.0
  config.train.evaluations = 1
  config.train.buckets = (128, 192)
  _rates(config, 2e-3, 1e-3)


def _rates(config: ml_collections.ConfigDict, adapters: float, head: float) -> None:
  config.optimizer.learning_rate = adapters
  config.head_optimizer.learning_rate = head


def _quick(config: ml_collections.ConfigDict) -> None:
  """Small enough to see everything work, too small for a good metric."""
  config.data.max_length = 192 if config.data.qa.answer == 'span' else 288
  config.data.qa.overlap = 48
  config.data.qa.max_question = 48
  config.data.max_train_rows = 512
  config.data.max_eval_rows = 256
  config.train.epochs = 1.0
  config.train.evaluations = 2
  config.train.buckets = ()  # A compilation takes longer than it saves here.
