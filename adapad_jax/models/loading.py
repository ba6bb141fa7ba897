"""Loads pretrained models, whatever their family and source."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.files import read_json
from adapad_jax.models import checkpoint_files, quantised, sources, stack, weights
from adapad_jax.models.families import family_of
from adapad_jax.models.family import Family, Runtime
from adapad_jax.models.head import Head
from adapad_jax.models.sources import Source

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}
# What frozen kernels may be held in; '' is the model's dtype.
WEIGHTS = ('', *quantised.FORMS)
# Linear layers that are no part of the head and yet stay as they are.
_WHOLE = ('lm_head',)


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A loaded model and what is known about it.

  Attributes:
    model: module with `model(batch, keys_B=None) -> logits`; abstract if outlined.
    head: what it computes.
    config: the family's frozen dataclass.
    family: name of the family, the `model_type` of config.json.
    hf_config: config.json as read.
    source: where it is.
    head_modules: paths of the modules that are trained with the adapters.
    targets: short name -> regex that matches the whole path of its linear layers.
    initialised: torch names of the tensors that were drawn, not read.
    scan: whether its layers run as one scanned layer.
  """

  model: nnx.Module
  head: Head
  config: Any
  family: str
  hf_config: Mapping[str, Any]
  source: Source
  head_modules: tuple[str, ...]
  targets: Mapping[str, str]
  initialised: tuple[str, ...]
  scan: bool

  @property
  def source_dir(self) -> pathlib.Path:
    """The folder that it is loaded from."""
    return self.source.folder


class _OneKey:
  """Gives initialisers a key where nothing but their shapes is wanted.

  The count in `nnx.Rngs` is a variable. Traced, each of its steps has jax look through
  all that was traced before: most of the time that an outline took.
  """

  def params(self) -> jax.Array:
    """Always the same key."""
    return jax.random.key(0)


def outline(
  source: str | Source,
  head: Head,
  *,
  dtype: str = 'float32',
  weights: str = '',
  hidden_dropout: float | None = None,
  attention_dropout: float | None = None,
  scan: bool | None = False,
  remat: bool = False,
  fused: bool = False,
) -> Pretrained:
  """Describes a model without its weights, which are not downloaded either.

  Every array is abstract.

  Args:
    source: 'package:NAME/FOLDER', a directory in Hugging Face layout, a hub id, or
      what `sources.find` found for one of these.
    head: what the model computes.
    dtype: 'float32' or 'bfloat16', of the frozen parameters and the activations;
      norms, softmax and the head stay in float32.
    weights: what the kernels of frozen linear layers are held in, one of `WEIGHTS`;
      they are widened to dtype where they are used. '' holds them in dtype.
    hidden_dropout: replaces the model's own rate, None keeps it.
    attention_dropout: likewise for the attention probabilities.
    scan: run the layers as one scanned layer; None leaves it to `stack.is_scanned`
      for JAX's default device.
    remat: recompute each layer in the backward pass.
    fused: leave attention to `jax.nn.dot_product_attention`, except where dropout
      acts on its probabilities.

  Raises:
    ValueError: if the source, its model type, the head, dtype, weights or a rate is
      not one that works.
  """
  if dtype not in DTYPES:
    raise ValueError(f'unknown dtype {dtype!r}; choose from {sorted(DTYPES)}')
  if weights not in WEIGHTS:
    raise ValueError(f'unknown weights {weights!r}; choose from {WEIGHTS}')
  found = sources.find(source)
  raw = read_hf_config(found.folder)
  family = family_of(str(raw.get('model_type')))
  if head.kind not in family.heads:
    raise ValueError(
      f'{family.name} has no {head.kind!r} head; choose from {family.heads}'
    )
  with _naming(found.folder):
    config = _with_rates(family.read_config(raw), hidden_dropout, attention_dropout)
    if scan is None:
      # A family of one's own may count its layers in another way.
      layers = getattr(config, 'num_hidden_layers', 0)
      scan = stack.is_scanned(jax.default_backend(), layers)
    runtime = Runtime(DTYPES[dtype], scan, remat, fused)
    whole = (*family.head_modules(head), *_WHOLE)

    def build() -> nnx.Module:
      module = family.build(config, head, runtime, _OneKey())
      return quantised.pack_linears(module, weights, whole) if weights else module

    module = nnx.eval_shape(build)
  return Pretrained(
    model=module,
    head=head,
    config=config,
    family=family.name,
    hf_config=raw,
    source=found,
    head_modules=family.head_modules(head),
    targets=family.targets,
    initialised=(),
    scan=scan,
  )


def fill(
  outlined: Pretrained,
  *,
  seed: int = 0,
  random_weights: bool = False,
  fresh_head: bool = False,
  place: weights.Place = lambda path, host: jax.device_put(host),
) -> Pretrained:
  """Reads the weights of an outlined model, and downloads them if need be.

  Needs memory for the parameters as they are held, and a few megabytes more: kernels
  are quantised while they are read.

  Args:
    outlined: from `outline`.
    seed: draws the tensors that the checkpoint lacks.
    random_weights: draw all tensors; only config.json is read.
    fresh_head: draw the head even if the checkpoint has one.
    place: (dotted path, host array) -> the array on its devices, as soon as it is read.

  Raises:
    ValueError: if the tensors do not fit (all of them in one message), or cannot be
      had.
  """
  if not random_weights:
    if outlined.hf_config.get('quantization_config'):
      logging.getLogger(__name__).warning(
        '%s: quantization_config in config.json is not read: the weights are taken as'
        ' the files hold them; model.weights has forms of its own',
        outlined.source_dir,
      )
    outlined.source.fetch_weights()
  model, drawn = _fill(
    outlined.model,
    family_of(outlined.family),
    outlined.head,
    None if random_weights else outlined.source_dir,
    seed,
    fresh_head,
    outlined.config,
    place,
  )
  return dataclasses.replace(outlined, model=model, initialised=drawn)


def load(
  source: str | Source,
  head: Head,
  *,
  dtype: str = 'float32',
  weights: str = '',
  hidden_dropout: float | None = None,
  attention_dropout: float | None = None,
  seed: int = 0,
  random_weights: bool = False,
  fresh_head: bool = False,
  scan: bool = False,
  remat: bool = False,
  fused: bool = False,
) -> Pretrained:
  """Loads a model from a package, a directory or the hub: `outline`, then `fill`.

  Raises:
    ValueError: as they do.
  """
  outlined = outline(
    source,
    head,
    dtype=dtype,
    weights=weights,
    hidden_dropout=hidden_dropout,
    attention_dropout=attention_dropout,
    scan=scan,
    remat=remat,
    fused=fused,
  )
  if not random_weights:
    outlined.source.to_download()  # Refuses what has none.
  return fill(outlined, seed=seed, random_weights=random_weights, fresh_head=fresh_head)


def require_head(outlined: Pretrained) -> None:
  """Refuses a checkpoint whose config.json tells that its head is of another size.

  Raises:
    ValueError: if it classifies, and into another number of classes.
  """
  raw, head = outlined.hf_config, outlined.head
  kinds = [str(name) for name in raw.get('architectures') or ()]
  named = raw.get('id2label')
  theirs = len(named) if named else raw.get('num_labels', 2)
  wanted = {'classification': head.num_labels, 'regression': 1}.get(head.kind)
  if wanted is None or theirs == wanted:
    return
  if any(kind.endswith('ForSequenceClassification') for kind in kinds):
    raise ValueError(
      f'the head of {outlined.source.name} has {theirs} outputs'
      f' ({", ".join(map(str, (named or {}).values()))}), this task needs {wanted};'
      ' take the model that it was made from'
    )


def max_length(source: str | Source) -> int:
  """Longest input in tokens that a model takes.

  Raises:
    ValueError: if there is no such model, or its type is not implemented.
  """
  folder = sources.find(source).folder
  raw = read_hf_config(folder)
  with _naming(folder):
    return family_of(str(raw.get('model_type'))).read_config(raw).max_length


@contextlib.contextmanager
def _naming(folder: pathlib.Path) -> Iterator[None]:
  """Says in errors where the config.json is."""
  try:
    yield
  except ValueError as error:
    raise ValueError(f'{folder}: {error}') from error


def read_hf_config(folder: pathlib.Path) -> dict[str, Any]:
  """Reads config.json of a folder.

  Raises:
    ValueError: if it is missing or not a JSON object.
  """
  path = folder / 'config.json'
  if not path.is_file():
    raise ValueError(f'{folder} has no config.json, so it is not a model folder')
  return read_json(path, dict)


def _with_rates(config: Any, hidden: float | None, attention: float | None) -> Any:
  given = {
    'hidden_dropout_prob': hidden,
    'attention_probs_dropout_prob': attention,
  }
  given = {name: rate for name, rate in given.items() if rate is not None}
  for name, rate in given.items():
    if not 0 <= rate < 1:
      raise ValueError(f'{name} must be in [0, 1), got {rate}')
  return dataclasses.replace(config, **given)


def _fill(
  module: nnx.Module,
  family: Family,
  head: Head,
  folder: pathlib.Path | None,
  seed: int,
  fresh_head: bool,
  config: Any,
  place: weights.Place,
) -> tuple[nnx.Module, tuple[str, ...]]:
  """Fills a module from a folder, or without one from the seed alone."""
  slots = weights.slots_of(module)
  files = checkpoint_files.open_tensors(folder) if folder else _no_tensors()
  with files as stored:
    if folder:
      if head.kind == 'lm' and getattr(config, 'tie_word_embeddings', False):
        weights.require_tied(slots, stored, family)
      stored = weights.match(
        slots, stored, family, family.head_modules(head), fresh_head
      )
    model = weights.fill(module, slots, stored, seed, config.initializer_range, place)
  drawn = weights.wanted_shapes(slots, family).keys() - stored.keys()
  return model, tuple(sorted(drawn))


def _no_tensors() -> contextlib.AbstractContextManager[dict]:
  return contextlib.nullcontext({})
