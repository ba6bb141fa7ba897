"""Everything that a fine-tuning run is told, as frozen dataclasses."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

from adapad_jax.adapters import Targets
from adapad_jax.files import require_shape
from adapad_jax.lowrank import INITIALIZERS
from adapad_jax.methods import METHODS
from adapad_jax.models import DTYPES, WEIGHTS
from adapad_jax.optim import Optimizer
from adapad_jax.ranges import (
  LARGEST_INT,
  Count,
  Fraction,
  Free,
  Natural,
  NonNegative,
  OneOf,
  Positive,
  Range,
  Seed,
  Text,
)
from adapad_jax.settings import build, check, convert, did_you_mean, hints_of, renamed
from adapad_jax.tasks import DataConfig


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The pretrained model and how it computes; see `models.load`.

  Attributes:
    source: 'package:NAME/FOLDER', a directory, or a hub id, ID or ID@REVISION; a
      directory wins over an id of the same name.
    revision: branch, tag or commit of a hub id; '' means its main branch.
    dtype: of the frozen weights and the activations: 'float32' or 'bfloat16'.
    weights: what the kernels of frozen linear layers are held in: '' (as dtype),
      'bfloat16', 'int8' or 'nf4'; they are widened to dtype where they are used.
    hidden_dropout, attention_dropout, head_dropout: None keeps the model's own.
    scan: run equal layers as one scanned layer; None does so on a GPU or TPU from 12
      layers on, to compile one and not all of them, and not on a CPU.
    remat: recompute activations in the backward pass.
    fused: leave attention to JAX's own function, which has a flash kernel on some
      devices, except where dropout acts on its probabilities.
    random_weights: draw the weights instead of reading them.
  """

  source: Annotated[str, Free(blank=False)] = 'microsoft/deberta-v3-base'
  revision: Text = ''
  dtype: Annotated[str, OneOf(DTYPES)] = 'float32'
  weights: Annotated[str, OneOf(WEIGHTS)] = ''
  hidden_dropout: Fraction | None = None
  attention_dropout: Fraction | None = None
  head_dropout: Fraction | None = None
  scan: bool | None = None
  remat: bool = False
  fused: bool = False
  random_weights: bool = False

  def __post_init__(self) -> None:
    check(self, 'model')


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
  """What is adapted and how it starts.

  Attributes:
    targets: what is adapted: 'all-linear' (everything but heads), short names of the
      model's family ('query', 'layer.output'), ends of module names ('q_proj'), or
      regexes for whole names.
    exclude: what to leave out of that, named likewise.
    layers: numbers of the layers to adapt; empty means all. What `full` and `head`
      train does not depend on targets, exclude and layers.
    scale: constant in front of every update, never changed as ranks grow; not read by
      `full` and `head`.
    init: 'kaiming', 'gaussian' or 'orthonormal' input directions. `adalora` and
      `increlora` draw theirs otherwise and refuse another than the default; `eva` and
      `lora_one` take them from data, `full` and `head` have none.
  """

  targets: tuple[Text, ...] = ('all-linear',)
  exclude: tuple[Text, ...] = ()
  layers: tuple[Natural, ...] = ()
  scale: Positive = 4.0
  init: Annotated[str, OneOf(INITIALIZERS)] = 'kaiming'

  def __post_init__(self) -> None:
    check(self, 'adapter')

  def choice(self) -> Targets:
    """The patterns for `adapters.choose`."""
    return Targets(self.targets, self.exclude, self.layers)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Optimizer):
  """An optimiser as configs state it: it warms up by default, ranges are checked."""

  warmup: Annotated[float, Range(least=0, most=1e9)] = 0.06


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """Length of the run and what happens on the way.

  Attributes:
    batch: rows of a batch.
    head_steps: steps of the head alone before the first round, on the batches that
      training begins with; a start that is made of gradients needs a head that means
      something.
    accumulate: parts in which a batch is computed, one after the other, to save memory;
      numbers are those of the whole batch.
    epochs: passes over the training data.
    steps: batches to train on; 0 means what `epochs` says.
    eval_batch: rows evaluated at once.
    evaluations: how often the run evaluates, the end included.
    checkpoint_every: rounds between saves beside those at evaluations; 0: none.
    curve_rows: validation rows on which the truncation curve is drawn, the same random
      ones for every prefix; 0 means all. For questions, windows of their passages.
    curve_from: components of the shortest prefix that is scored; 0 scores the trained
      head alone too.
    log_every: rounds between lines of metrics.
    patience: evaluations in a row without improvement that end the run; 0: never.
    buckets: lengths in tokens to pad a batch to, beside the longest; rows of like
      length then share a batch, and the step compiles once a length. Empty: one
      length for all.
    packing: put several documents into a training row, of tasks that can.
    wandb: project at Weights & Biases that metrics go to; '' sends nothing.
    profile: (first round, number of rounds) to write a trace of; empty: none.
    watchdog: seconds without progress after which a round or an evaluation is named
      on stderr, with what it waits for; it is not ended. 0: never.
  """

  batch: Count = 32
  head_steps: Natural = 0
  accumulate: Count = 1
  epochs: NonNegative = 3.0
  steps: Natural = 0
  eval_batch: Count = 64
  evaluations: Count = 10
  checkpoint_every: Natural = 0
  curve_rows: Natural = 4096
  curve_from: Natural = 1
  log_every: Count = 10
  patience: Natural = 0
  buckets: tuple[Count, ...] = ()
  packing: bool = False
  wandb: Text = ''
  profile: tuple[Count, ...] = ()
  watchdog: NonNegative = 300.0

  def __post_init__(self) -> None:
    check(self, 'train')
    if self.batch % self.accumulate:
      fits = [n for n in range(1, min(self.batch, 4096) + 1) if self.batch % n == 0]
      raise ValueError(
        f'train.accumulate={self.accumulate} does not divide train.batch='
        f'{self.batch}; choose from {fits}'
      )
    if self.profile and len(self.profile) != 2:
      raise ValueError(
        'train.profile must be (first round, number of rounds), both from one, got'
        f' {self.profile}'
      )
    if not self.steps and not self.epochs:
      raise ValueError('train.epochs must be > 0 where train.steps is 0, got 0.0')

  def total_steps(self, rows: int) -> int:
    """Batches of the run on so many training rows.

    Raises:
      ValueError: if they are more than can be counted.
    """
    steps = self.steps or max(round(self.epochs * rows / self.batch), 1)
    if steps > LARGEST_INT:
      raise ValueError(
        f'train.epochs={self.epochs:g} on {rows} rows are {steps:.2g} batches; at most'
        f' {LARGEST_INT} work'
      )
    return steps


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Devices along each axis of the mesh; 0 chooses.

  Attributes:
    worker: devices that share the components.
    data: devices that share the rows of a batch.
    model: devices that share the backbone's weights; 0 takes as few as hold them.
  """

  worker: Natural = 0
  data: Natural = 0
  model: Natural = 0

  def __post_init__(self) -> None:
    check(self, 'mesh')


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

  program: Annotated[str, OneOf(('finetune',))]
  seed: Seed
  method: Annotated[str, OneOf(METHODS)]
  settings: Any
  data: DataConfig
  model: ModelConfig
  adapter: AdapterConfig
  optimizer: OptimizerConfig
  head_optimizer: OptimizerConfig
  train: TrainConfig
  mesh: MeshConfig

  def __post_init__(self) -> None:
    check(self, '')


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
  if not isinstance(values, Mapping):
    raise ValueError(f'config must be a group of fields, got {values!r}')
  if values.get('program') == 'regression':
    raise ValueError(
      "config.program is 'regression', and this is for fine-tuning; a regression knows"
      ' --mode=train, eval, report and info'
    )
  for name in values:
    if name not in known:
      raise ValueError(f'unknown field config.{name}{did_you_mean(name, known)}')
  plain |= {name: values[name] for name in plain if name in values}
  hints = hints_of(FinetuneConfig)
  plain = {name: convert(hints[name], value, name) for name, value in plain.items()}
  groups = {
    name: build(kind, values.get(name, {}), f'config.{name}')
    for name, kind in _GROUPS.items()
  }
  settings = {
    name: build(kind, values.get(name, {}), f'config.{name}')
    for name, (kind, _) in METHODS.items()
  }
  return FinetuneConfig(**plain, settings=settings[plain['method']], **groups)


# What fields were called in earlier versions, by group: old name -> name.
_RENAMED = {
  'optimizer': {'rate': 'learning_rate'},
  'head_optimizer': {'rate': 'learning_rate'},
  'adapad': {'grants': 'grants_per_event'},
  'increlora': {'grants': 'grants_per_event'},
}
# Fields with another default now than when they did not exist yet, or were left out.
_THEN = {'adapad': {'joint': 0.0, 'polish': 0.0, 'head_rows': 'last'}}
# Fields that the config of an earlier version may hold, with the value that meant what
# is done now in any case.
_RETIRED = {'adapad': {'stop_ratio': 0.0, 'stop_patience': 3}}


def stored_config(values: Mapping[str, Any], path: pathlib.Path) -> FinetuneConfig:
  """The config that a run of this version or an earlier one has written.

  Its method's settings are under 'settings'.

  Raises:
    ValueError: naming the file, if it was damaged or changed since.
  """
  require_shape(values, {'method': str, 'settings': dict}, str(path))
  method = values['method']
  settings = _THEN.get(method, {}) | dict(values['settings'])
  others = {name: value for name, value in values.items() if name != 'settings'}
  for name, value in _RETIRED.get(method, {}).items():
    if settings.get(name) == value:
      del settings[name]
  try:
    found = renamed(others | {method: settings}, _RENAMED)
    return finetune_config(_unrolled(_with_one_cache(found)))
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _with_one_cache(values: Mapping[str, Any]) -> dict[str, Any]:
  """`data.cache` was `data.chat.cache` while it kept conversations alone."""
  data = values.get('data')
  chat = data.get('chat') if isinstance(data, Mapping) else None
  if not isinstance(chat, Mapping) or 'cache' not in chat:
    return dict(values)
  left = {name: value for name, value in chat.items() if name != 'cache'}
  return {**values, 'data': {'cache': chat['cache'], **data, 'chat': left}}


def _unrolled(values: Mapping[str, Any]) -> dict[str, Any]:
  """A run that does not say whether its layers were scanned had them written out."""
  model = values.get('model')
  if not isinstance(model, Mapping):
    return dict(values)
  return {**values, 'model': {'scan': False, **model}}
