"""GLUE and other text classification or regression.

  python -m adapad_jax.main --config=configs/glue.py:quickstart

trains all-MiniLM-L6-v2 on Rotten Tomatoes critic snippets, both from Python packages,
in minutes on two CPU cores (measured figures: README.md).

  python -m adapad_jax.main --config=configs/glue.py:rte
  python -m adapad_jax.main --config=configs/glue.py:mnli --config.seed=1

train the paper's published: DeBERTaV3-base from the hub, 72 modules, 144 components,
at most 4 in a module. It needs the hub and an accelerator; the paper reports 86.28 %
accuracy on RTE (arXiv:2605.10741; not measured here).

  python -m adapad_jax.main --config=configs/glue.py:cola,minilm \\
      --config.data.path=FOLDER

trains MiniLM on a GLUE task, here from a folder with the official CoLA/train.tsv.
`quick` instead of `minilm` also cuts data and steps to a minute or two.

  python -m adapad_jax.main --config=configs/glue.py:classification,minilm \\
      --config.data.train=train.csv --config.data.validation=dev.csv \\
      --config.data.text=title,body --config.data.label=topic

trains on one's own files (.csv, .jsonl, .parquet, ...); `regression` fits numbers.

`published` behind any of them, as in configs/glue.py:rte,published, deflates as the
paper does, at r_max times the computation: every worker sees every row.
"""

import dataclasses
import difflib

import ml_collections

from configs.common import MINILM, defaults, parse, published


@dataclasses.dataclass(frozen=True)
class Script:
  """Settings of one task for DeBERTaV3-base, as IncreLoRA's scripts have them."""

  rate: float
  epochs: int
  max_length: int
  start: int
  grants_per_event: int
  warmup: int
  head_dropout: float
  weight_decay: float
  alpha: int


# https://github.com/FeiyuZhang98/IncreLoRA, NLU scripts for target rank 2; `start` is
# init_warmup = incre_interval, `grants_per_event` is top_h.
SCRIPTS = {
  'mnli': Script(3.5e-4, 9, 256, 1000, 2, 1000, 0.15, 0.0, 16),
  'sst2': Script(8e-4, 24, 128, 1000, 5, 1000, 0.0, 0.01, 16),
  'cola': Script(8e-4, 25, 64, 100, 3, 100, 0.1, 0.0, 32),
  'qqp': Script(4e-4, 7, 320, 1000, 3, 1000, 0.2, 0.01, 16),
  'qnli': Script(7e-4, 5, 512, 500, 12, 500, 0.1, 0.01, 32),
  'rte': Script(1.2e-3, 50, 320, 100, 5, 100, 0.2, 0.01, 32),
  'mrpc': Script(1e-3, 30, 320, 100, 6, 100, 0.0, 0.01, 32),
  'stsb': Script(2.2e-3, 25, 128, 100, 4, 100, 0.2, 0.1, 32),
}
OTHERS = ('quickstart', 'rotten_tomatoes', 'classification', 'regression')
# LoRA's alpha is divided by the rank that its authors used most.
_REFERENCE_RANK = 8


def get_config(arg: str = 'quickstart') -> ml_collections.ConfigDict:
  """Options: a task, `minilm` or `quick`, and `published`."""
  options = parse(arg, task='quickstart', minilm=False, quick=False, published=False)
  if options.task not in (*SCRIPTS, *OTHERS):
    choices = sorted((*SCRIPTS, *OTHERS))
    near = difflib.get_close_matches(options.task, choices, n=1)
    hint = f'; did you mean {near[0]!r}?' if near else ''
    raise ValueError(f'unknown task {options.task!r}; choose from {choices}{hint}')
  config = defaults()
  if options.published:
    published(config)
  if options.task == 'quickstart':
    if options.minilm or options.quick:
      raise ValueError(
        "config options 'minilm' and 'quick' are of other tasks: quickstart has MiniLM"
        ' and is short as it is'
      )
    _quickstart(config)
    return config
  config.data.task = options.task
  if options.task in SCRIPTS:
    _paper(config, SCRIPTS[options.task])
  if options.minilm or options.quick:
    _minilm(config)
  if options.quick:
    _quick(config)
  return config


def _paper(config: ml_collections.ConfigDict, script: Script) -> None:
  """DeBERTaV3-base, 72 modules; the budget of 144 is twice their number."""
  config.model.source = 'microsoft/deberta-v3-base'
  config.model.head_dropout = script.head_dropout
  config.data.max_length = script.max_length
  config.train.epochs = float(script.epochs)
  for optimizer in (config.optimizer, config.head_optimizer):
    optimizer.learning_rate = script.rate
    optimizer.warmup = float(script.warmup)
    optimizer.weight_decay = script.weight_decay
  config.adapter.scale = script.alpha / _REFERENCE_RANK
  config.adapad.start = config.adapad.interval = script.start
  config.adapad.grants_per_event = script.grants_per_event


def _minilm(config: ml_collections.ConfigDict) -> None:
  """MiniLM for three epochs, growth spread over the first half of them."""
  config.model.source = MINILM
  config.model.head_dropout = 0.1
  # The backbone is frozen: its own dropout costs a fifth of a step and only adds noise.
  config.model.hidden_dropout = config.model.attention_dropout = 0.0
  config.data.max_length = min(config.data.max_length, 64)
  config.train.buckets = (16, 32)
  config.train.epochs = 3.0
  config.train.evaluations = 3
  for optimizer in (config.optimizer, config.head_optimizer):
    optimizer.learning_rate = 1e-3
    optimizer.warmup = 0.06
    optimizer.weight_decay = 0.0
  # Of CoLA's five seeds one fell to a single class at the higher rate.
  config.optimizer.learning_rate = 1e-3 if config.data.task == 'cola' else 2e-3
  config.adapter.scale = 4.0
  config.adapad.start = config.adapad.interval = config.adapad.grants_per_event = 0


def _quick(config: ml_collections.ConfigDict) -> None:
  """Small enough to see everything work, too small for a good metric."""
  config.data.max_length = min(config.data.max_length, 64)
  config.data.max_train_rows = 1024
  config.data.max_eval_rows = 512
  config.train.buckets = ()  # A compilation takes longer than it saves here.
  config.train.epochs = 1.0
  config.train.evaluations = 2


def _quickstart(config: ml_collections.ConfigDict) -> None:
  """Rotten Tomatoes snippets with MiniLM."""
  _minilm(config)
  config.data.task = 'rotten_tomatoes'
  config.data.max_length = 40
  config.data.max_train_rows = 8000
  config.train.buckets = (24,)
  config.train.epochs = 1.0
  # A second evaluation, or every prefix on all 1,399 rows, would take as long as many
  # rounds.
  config.train.evaluations = 1
  config.train.curve_rows = 256
