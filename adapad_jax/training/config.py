"""Everything that a fine-tuning run is told, as frozen dataclasses."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from adapad_jax.adapters import Targets
from adapad_jax.deflation.initialize import INITIALIZERS
from adapad_jax.deflation.optimizer import Optimizer
from adapad_jax.methods import METHODS
from adapad_jax.settings import build, did_you_mean
from adapad_jax.tasks import DataConfig


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The pretrained model and how it computes; see `models.load`.

  Attributes:
    source: 'package:NAME/FOLDER', a directory, or a hub id.
    dtype: of the frozen weights: 'float32' or 'bfloat16'.
    hidden_dropout, attention_dropout, head_dropout: None keeps the model's own.
    scan: run equal layers as one scanned layer.
    remat: recompute activations in the backward pass.
    fused: leave attention to JAX's own function, which has a flash kernel on some
      devices, except where dropout acts on its probabilities.
    random_weights: draw the weights instead of reading them.
  """

  source: str = 'microsoft/deberta-v3-base'
  dtype: str = 'float32'
  hidden_dropout: float | None = None
  attention_dropout: float | None = None
  head_dropout: float | None = None
  scan: bool = False
  remat: bool = False
  fused: bool = False
  random_weights: bool = False


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
  """What is adapted and how it starts.

  Attributes:
    targets, exclude, layers: see `adapters.Targets`.
    scale: constant in front of every update, never changed as ranks grow.
    init: 'kaiming', 'gaussian' or 'orthonormal' input directions.
  """

  targets: tuple[str, ...] = ('all-linear',)
  exclude: tuple[str, ...] = ()
  layers: tuple[int, ...] = ()
  scale: float = 4.0
  init: str = 'kaiming'

  def __post_init__(self) -> None:
    if not self.scale > 0:
      raise ValueError(f'adapter.scale must be positive, got {self.scale}')
    if self.init not in INITIALIZERS:
      raise ValueError(
        f'unknown init {self.init!r} in config.adapter'
        f'{did_you_mean(self.init, INITIALIZERS)}'
      )

  def choice(self) -> Targets:
    """The patterns for `adapters.choose`."""
    return Targets(self.targets, self.exclude, self.layers)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """An optimiser as users state it; see `deflation.optimizer.Optimizer`.

  Attributes:
    warmup: steps of warm-up; below one, a fraction of the run.
  """

  rule: str = 'adam'
  rate: float = 1e-3
  warmup: float = 0.06
  decay: str = 'linear'
  weight_decay: float = 0.0
  clip: float = 1.0
  beta1: float = 0.9
  beta2: float = 0.999
  eps: float = 1e-8

  def __post_init__(self) -> None:
    for name in ('rate', 'warmup', 'weight_decay', 'clip'):
      if not getattr(self, name) >= 0:
        raise ValueError(f'optimizer {name} must be >= 0, got {getattr(self, name)}')
    self.resolve(1)

  def resolve(self, steps: int) -> Optimizer:
    """The optimiser of a run of so many steps."""
    fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
    share = self.warmup if self.warmup >= 1 else self.warmup * steps
    return Optimizer(**fields | {'warmup': round(share)})


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """Length of the run and what happens on the way.

  Attributes:
    batch: rows of a batch.
    accumulate: parts in which a batch is computed, one after the other, to save memory;
      numbers are those of the whole batch.
    epochs: passes over the training data.
    steps: batches to train on; 0 means what `epochs` says.
    eval_batch: rows evaluated at once.
    evaluations: how often the run evaluates, the end included.
    checkpoint_every: rounds between saves beside those at evaluations; 0: none.
    log_every: rounds between lines of metrics.
    patience: evaluations in a row without improvement that end the run; 0: never.
    buckets: lengths in tokens to pad a batch to, beside the longest; rows of like
      length then share a batch, and the step compiles once a length. Empty: one
      length for all.
    wandb: project at Weights & Biases that metrics go to; '' sends nothing.
    profile: (first round, number of rounds) to write a trace of; empty: none.
    watchdog: seconds without progress after which a round or an evaluation is named
      on stderr, with what it waits for; it is not ended. 0: never.
  """

  batch: int = 32
  accumulate: int = 1
  epochs: float = 3.0
  steps: int = 0
  eval_batch: int = 64
  evaluations: int = 10
  checkpoint_every: int = 0
  log_every: int = 10
  patience: int = 0
  buckets: tuple[int, ...] = ()
  wandb: str = ''
  profile: tuple[int, ...] = ()
  watchdog: float = 300.0

  def __post_init__(self) -> None:
    for name in ('batch', 'accumulate', 'eval_batch', 'evaluations', 'log_every'):
      if getattr(self, name) < 1:
        raise ValueError(f'train.{name} must be >= 1, got {getattr(self, name)}')
    if self.batch % self.accumulate:
      fits = [n for n in range(1, self.batch + 1) if self.batch % n == 0]
      raise ValueError(
        f'train.accumulate={self.accumulate} does not divide train.batch='
        f'{self.batch}; choose from {fits}'
      )
    if self.profile and (len(self.profile) != 2 or min(self.profile) < 1):
      raise ValueError(
        'train.profile must be (first round, number of rounds), both from one, got'
        f' {self.profile}'
      )
    if not 0 <= self.watchdog < float('inf'):
      raise ValueError(f'train.watchdog must be >= 0 seconds, got {self.watchdog}')
    if not self.steps and not self.epochs > 0:
      raise ValueError(f'train.epochs must be positive, got {self.epochs}')

  def total_steps(self, rows: int) -> int:
    """Batches of the run on so many training rows."""
    return self.steps or max(round(self.epochs * rows / self.batch), 1)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis of the mesh; 0 chooses.

  Attributes:
    worker: devices that share the components.
    data: devices that share the rows of a batch.
    model: devices that share the backbone's weights; 0 takes as few as hold them.
  """

  worker: int = 0
  data: int = 0
  model: int = 0


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
  """A whole run.

  Attributes:
    program: always 'finetune'.
    seed: folded into every random draw: weights, data order, noise.
    method: a name of `methods.METHODS`.
    settings: the settings of that method, from the config's group of its name.
    data, model, adapter, optimizer, head_optimizer, train, mesh: see their classes.
  """

  program: str
  seed: int
  method: str
  settings: Any
  data: DataConfig
  model: ModelConfig
  adapter: AdapterConfig
  optimizer: OptimizerConfig
  head_optimizer: OptimizerConfig
  train: TrainConfig
  mesh: MeshConfig


_GROUPS = {
  'data': DataConfig,
  'model': ModelConfig,
  'adapter': AdapterConfig,
  'optimizer': OptimizerConfig,
  'head_optimizer': OptimizerConfig,
  'train': TrainConfig,
  'mesh': MeshConfig,
}


def finetune_config(values: Mapping[str, Any]) -> FinetuneConfig:
  """Turns a config dict into a run; groups of other methods are checked, then dropped.

  Args:
    values: groups by name, {'data': {'task': 'rte'}, 'train': {'steps': 100}, ...},
      and 'seed' and 'method'; what is left out keeps its default. All fields:
      docs/configuration.md.

  Raises:
    ValueError: for an unknown field, method or choice, or a value out of range.
  """
  plain = {'program': 'finetune', 'seed': 0, 'method': 'adapad'}
  known = (*plain, *_GROUPS, *METHODS)
  for name in values:
    if name not in known:
      raise ValueError(f'unknown field config.{name}{did_you_mean(name, known)}')
  plain |= {name: values[name] for name in plain if name in values}
  method = plain['method']
  if method not in METHODS:
    raise ValueError(f'unknown method {method!r}{did_you_mean(method, METHODS)}')
  groups = {
    name: build(kind, values.get(name, {}), f'config.{name}')
    for name, kind in _GROUPS.items()
  }
  settings = {
    name: build(kind, values.get(name, {}), f'config.{name}')
    for name, (kind, _) in METHODS.items()
  }
  return FinetuneConfig(**plain, settings=settings[method], **groups)
