"""`--mode=rerank`: a small adapter from a large update, most often by text."""

import dataclasses
import json
import time
from typing import Any

import jax
import numpy as np

from adapad_jax import models, sharding
from adapad_jax.adapters.targets import choose
from adapad_jax.commands import Request
from adapad_jax.files import finite
from adapad_jax.interchange import (
  FoundAdapter,
  find_adapter,
  names_of_config,
  read_peft,
  require_gguf,
  require_same_labels,
)
from adapad_jax.methods import METHODS
from adapad_jax.reranking import (
  Ordered,
  Reranked,
  Update,
  alike,
  fit,
  from_adapter,
  from_tuned,
  spend,
  spend_parameters,
  text_lengths,
  truncate,
  within,
)
from adapad_jax.settings import did_you_mean
from adapad_jax.training.batches import Columns
from adapad_jax.training.config import FinetuneConfig, MeshConfig, finetune_config
from adapad_jax.training.cutting import require_counts
from adapad_jax.training.exports import (
  Destination,
  real_batch,
  release_of,
  score,
  write,
)
from adapad_jax.training.plan import Plan, make_plan
from adapad_jax.training.session import Session, open_session
from adapad_jax.training.terminal import say

# Components of a module, where the update does not say; the cost grows with it.
_RANK = 16
# Tokens of the text that are looked at.
_TOKENS = 2**17
_ORDERS = 'outputs', 'svd'


def run(request: Request) -> None:
  """Re-ranks --adapter, or --tuned minus its base, and exports what is kept.

  That is --budget components or --parameters over all modules, or --max_rank components
  of each. The text is the training split of the config's task, or --input; labels are
  used for the reported metric alone.

  Raises:
    ValueError: if an input is missing or does not fit, or the export is not right.
  """
  options = request.options
  _check(request)
  destination = Destination(options['out'], options['format'], options['base_name'])
  config = finetune_config(request.config)
  if config.model.weights:
    raise ValueError(
      'rerank weighs an update by the kernels of its base as they are, so it needs'
      f" model.weights='', not {config.model.weights!r}"
    )
  plan = make_plan(_untrained(config))
  given = options['input']
  text = plan.task.read(given) if given else plan.task.splits['train']
  source = find_update(options)
  say(f'update: {source}')
  if destination.format == 'gguf':
    require_gguf(plan.outlined)
  with jax.set_mesh(plan.mesh):
    session = open_session(plan)
  update, rank = read_update(session, source, options)
  started = time.monotonic()
  if options['order'] == 'svd':
    ordered = truncate(update.deltas, rank)
  else:
    ordered = _by_outputs(update, text.columns, rank)
  ordered = within(ordered, update.ranks)
  small = _kept(ordered, update, options)
  seconds = time.monotonic() - started
  with jax.set_mesh(plan.mesh):
    metrics = score(session, small.adapter)
  release = release_of(session, small.adapter, metrics, destination)
  batch = real_batch(plan.task.splits['validation'])
  found = write(release, batch, destination)
  found |= {'explained': small.share, 'seconds': seconds}
  say(json.dumps(finite(found)))


def _untrained(config: FinetuneConfig) -> FinetuneConfig:
  """The config without what only training asks for.

  Activations are looked at layer by layer, on whole weights.
  """
  settings, _ = METHODS['lora']
  return dataclasses.replace(
    config,
    method='lora',
    settings=settings(rank=1),
    model=dataclasses.replace(config.model, scan=False),
    mesh=MeshConfig(1, 1, 1),
  )


def _by_outputs(update: Update, columns: Columns, rank: int) -> dict[str, Ordered]:
  """Components in the order of what they do to the model's outputs on the text."""
  some = some_rows(columns)
  say(f'text: {len(some["ids_BL"]):,} of {len(columns["ids_BL"]):,} rows')
  return fit(update, some, rank, sharding.make_mesh(1, jax.device_count()))


def _kept(
  ordered: dict[str, Ordered], update: Update, options: dict[str, Any]
) -> Reranked:
  """As many components as were asked for."""
  if parameters := options['parameters']:
    return spend_parameters(ordered, update.head, parameters)
  if budget := options['budget']:
    return spend(ordered, update.head, budget)
  return alike(ordered, update.head, options['max_rank'])


def _check(request: Request) -> None:
  """Refuses what cannot work before anything is read."""
  options = request.options
  sizes = {name: options[name] for name in ('budget', 'parameters', 'max_rank')}
  if request.config is None or not any(sizes.values()):
    raise ValueError(
      'rerank needs --config=FILE for the task, and --budget=COMPONENTS or'
      ' --parameters=COUNT over all modules or --max_rank=COMPONENTS of each'
    )
  require_counts(**sizes)
  if options['budget'] and options['parameters']:
    raise ValueError('give --budget or --parameters, not both')
  if options['order'] not in _ORDERS:
    hint = did_you_mean(options['order'], _ORDERS)
    raise ValueError(f'unknown --order {options["order"]!r}{hint}')
  if options['order'] == 'svd' and options['input']:
    raise ValueError(f'--order=svd reads no text; leave out --input={options["input"]}')
  if bool(options['adapter']) == bool(options['tuned']):
    raise ValueError(
      'rerank needs --adapter=FOLDER or --tuned=MODEL, not both; ids on the hub do too'
    )


def some_rows(columns: Columns, tokens: int = _TOKENS) -> Columns:
  """All rows, or so many drawn ones that they have at most so many tokens.

  Moments of more change little, and a pass over a whole training set can take hours.
  """
  length_N = text_lengths(columns)
  if length_N.sum() <= tokens:
    return columns
  drawn_N = np.random.default_rng(0).permutation(len(length_N))
  count = np.searchsorted(np.cumsum(length_N[drawn_N]), tokens, side='right')
  at_B = np.sort(drawn_N[: max(count, 1)])
  return {name: column[at_B] for name, column in columns.items()}


def find_update(options: dict[str, Any]) -> FoundAdapter | models.Source:
  """Where --adapter or --tuned is; of a model on the hub all but the weights is here.

  Raises:
    ValueError: if it is nowhere.
  """
  if options['adapter']:
    return find_adapter(options['adapter'])
  tuned = models.find(options['tuned'])
  tuned.to_download()  # Refuses what has no weights.
  return tuned


def read_update(
  session: Session, source: FoundAdapter | models.Source, options: dict[str, Any]
) -> tuple[Update, int]:
  """The update that was asked for, and the most components that a module may get.

  Raises:
    ValueError: if it cannot be read, or was trained for other labels than the task's.
  """
  plan: Plan = session.plan
  ours = plan.task.label_names
  if isinstance(source, FoundAdapter):
    release = read_peft(source.folder, session.pretrained)
    require_same_labels(release.label_names, ours, options['adapter'])
    adapter = release.adapter
    largest = max(adapter.ranks.values())
    update = from_adapter(session.pretrained, adapter)
    return update, min(options['max_rank'] or largest, largest)
  model = plan.config.model
  tuned = models.load(
    source,
    session.pretrained.head,
    dtype=model.dtype,
    remat=model.remat,
    fused=model.fused,
  )
  require_same_labels(names_of_config(tuned.hf_config), ours, options['tuned'])
  shapes = choose(
    session.pretrained.model,
    plan.config.adapter.choice(),
    session.pretrained.targets,
    session.pretrained.head_modules,
  )
  # As held, in bfloat16 perhaps, weights may differ by nothing but their rounding.
  update = from_tuned(session.pretrained, tuned, list(shapes), stored=True)
  if update.beside:
    largest = sorted(update.beside.items(), key=lambda item: -item[1])[:3]
    say(f'changes outside the adapted layers are left out, the largest: {largest}')
  return update, options['max_rank'] or _RANK
