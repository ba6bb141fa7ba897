"""Instruction tuning of a decoder on rows of one's own: prompts, chats, questions.

  python -m adapad_jax.main --config=configs/sft.py --config.data.train=mine.jsonl

trains Qwen3-0.6B in bfloat16, from the hub, on a file whose layout is found by itself
(docs/sft.md), and validates on a twentieth of it. It needs an accelerator.

  python -m adapad_jax.main --config=configs/sft.py:smollm2 \\
      --config.data.train=gsm8k-train.jsonl --config.data.holdout=0.05

trains SmolLM2-135M-Instruct in float32, which fits two CPU cores. `qwen25` takes
Qwen2.5-0.5B-Instruct and `gemma3` Gemma 3 270M, which its owner has to grant. Without
the hub, give a folder: --config.model.source=FOLDER. `quick` besides cuts rows and
steps to a few minutes.
"""

import ml_collections

from configs.common import defaults, one_of, parse, published


def get_config(arg: str = '') -> ml_collections.ConfigDict:
  """Options: one of `smollm2`, `qwen25` and `gemma3`; `quick`, and `published`.

  For the last see configs/glue.py.
  """
  options = parse(
    arg, smollm2=False, qwen25=False, gemma3=False, quick=False, published=False
  )
  chosen = one_of(options, 'smollm2', 'qwen25', 'gemma3')
  config = defaults()
  if options.published:
    published(config)
  config.data.task = 'sft'
  config.optimizer.learning_rate = config.head_optimizer.learning_rate = 5e-4
  config.train.batch, config.train.eval_batch = 16, 16
  config.train.epochs = 2.0
  config.train.evaluations = 4
  (_smollm2 if chosen == 'smollm2' else _on_an_accelerator)(config)
  if chosen == 'qwen25':
    config.model.source = 'Qwen/Qwen2.5-0.5B-Instruct'
  if chosen == 'gemma3':
    config.model.source = 'google/gemma-3-270m-it'
  if options.quick:
    _quick(config)
  return config


def _on_an_accelerator(config: ml_collections.ConfigDict) -> None:
  """Qwen3-0.6B, or a model of that size; rows of up to 1,024 tokens."""
  config.model.source = 'Qwen/Qwen3-0.6B'
  config.model.dtype = 'bfloat16'
  config.model.scan = config.model.remat = True
  config.data.max_length = 1024
  config.train.buckets = (256, 512)


def _smollm2(config: ml_collections.ConfigDict) -> None:
  """SmolLM2-135M-Instruct; its thirty layers compile as one."""
  config.model.source = 'HuggingFaceTB/SmolLM2-135M-Instruct'
  config.model.scan = True
  config.data.max_length = 512
  config.train.buckets = (128, 192, 256)


def _quick(config: ml_collections.ConfigDict) -> None:
  """Small enough to see everything work, too small for a good metric."""
  config.data.max_length = 192
  config.data.max_train_rows = 256
  config.data.max_eval_rows = 64
  config.train.epochs = 1.0
  config.train.evaluations = 2
  config.data.generation.max_new_tokens = 48
  config.train.buckets = ()  # A compilation takes longer than it saves here.
