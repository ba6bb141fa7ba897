"""A trained run becomes files that other libraries load; docs/export.md."""

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from adapad_jax import hub
from adapad_jax.interchange import (
  Release,
  Report,
  require_free,
  require_gguf,
  write_gguf,
  write_merged,
  write_peft,
)
from adapad_jax.lowrank import Adapter
from adapad_jax.models import Source, sources, weights
from adapad_jax.models.originals import form_of, require_originals
from adapad_jax.origins import HubCommit
from adapad_jax.settings import did_you_mean
from adapad_jax.sharding import fetch
from adapad_jax.tasks import Split
from adapad_jax.tasks.facts import Unavailable
from adapad_jax.tasks.task import Batch
from adapad_jax.training.batches import trimmed
from adapad_jax.training.cutting import check_cut, chosen_prefix
from adapad_jax.training.evaluate import make_evaluator
from adapad_jax.training.plan import Plan
from adapad_jax.training.saved import SavedRun, restore
from adapad_jax.training.session import Session
from adapad_jax.training.transfer import deploy_adapter

FORMATS = ('peft', 'peft-uniform', 'merged', 'gguf')
# Real rows on which an export is compared with the state, and tokens of each: logits
# of every next token of long rows would need gigabytes.
_ROWS, _POSITIONS = 8, 64
# What they are where the run's data are not at hand.
_SENTENCES = (
  'One.',
  'Two words.',
  'A film is a long row of pictures.',
  'The plot was good, the cast was better, and the ending came too soon for both.',
)


@dataclasses.dataclass(frozen=True)
class Destination:
  """Where an export goes.

  Attributes:
    out: its folder, which must not exist yet.
    format: one of `FORMATS`.
    base_name: what the files call the base model; '' for the name or folder that it
      was loaded from.
    tokenizer: whether an adapter gets its base's tokenizer beside it, as a merged
      model does in any case.

  Raises:
    ValueError: if the folder is missing, exists or cannot be made, the format is
      unknown, or the base's name has a revision behind it.
  """

  out: str
  format: str = 'peft'
  base_name: str = ''
  tokenizer: bool = False

  def __post_init__(self) -> None:
    if self.format not in FORMATS:
      raise ValueError(
        f'unknown --format {self.format!r}{did_you_mean(self.format, FORMATS)}'
      )
    if self.format == 'gguf':
      require_gguf()
    _require_name(self.base_name)
    if not self.out:
      raise ValueError('this mode needs --out=FOLDER, which must not exist yet')
    require_free(self.out)


def _require_name(base_name: str) -> None:
  """Refuses NAME@REVISION, which no reader of the files takes for a name."""
  name, _, revision = base_name.partition('@')
  if revision and hub.is_id(base_name) and not sources.is_folder(base_name):
    raise ValueError(
      f'--base_name={base_name} has a revision behind the name, where other libraries'
      f' read none; give --base_name={name}. A base that was loaded from the hub under'
      ' that name is pinned to its commit in any case'
    )


def export(
  workdir: str | os.PathLike[str],
  out: str | os.PathLike[str],
  *,
  format: str = 'peft',
  max_rank: int = 0,
  budget: int = 0,
  base_name: str = '',
  checkpoint: str = 'best',
  tokenizer: bool = False,
) -> dict[str, Any]:
  """Writes a run's adapter, cut if asked to, as files that other libraries load.

  The cut adapter is scored first, if the validation data are still there; what was
  written is read back and compared with the state, weights and outputs, before the
  folder gets its name.

  Args:
    workdir: the folder of the run.
    out: the folder to write, which must not exist yet.
    format: 'peft', 'peft-uniform' (one rank everywhere), 'merged' (a whole model) or
      'gguf' (for llama.cpp).
    max_rank: keeps the first so many components of every module; 0 keeps all.
    budget: keeps so many components over all modules; 0 keeps all.
    base_name: what the files call the base model, if not what it was loaded from.
    checkpoint: 'best' or 'latest'.
    tokenizer: write the base's tokenizer beside an adapter; one of task 'sft' gets it,
      and its chat template, in any case.

  Returns:
    The folder, components and parameters, the largest error of a weight
    ('delta_error') and of an output ('logit_gap'), and the metrics.

  Raises:
    ValueError: if there is no such run or format, or the export is not right.
  """
  destination = Destination(os.fspath(out), format, base_name, tokenizer)
  check_cut(max_rank, budget)
  run = restore(workdir, checkpoint)
  with jax.set_mesh(run.plan.mesh):
    if destination.format == 'gguf':
      require_gguf(run.session.pretrained)
    if destination.format == 'merged':
      require_originals(run.session.pretrained)
    if run.deployed.changes is not None:
      _check_whole(destination, max_rank, budget)
      release = _whole_model(run, destination)
    else:
      adapter = chosen_prefix(run.adapter, max_rank, budget)
      metrics = {}
      if not _is_unpacked(run, destination):
        metrics = _scored(
          lambda: score(run.session, adapter),
          {} if max_rank or budget else run.metrics,
        )
      release = release_of(run.session, adapter, metrics, destination)
  return write(release, _batch(run), destination)


def _is_unpacked(run: SavedRun, destination: Destination) -> bool:
  """Whether what is written has whole kernels where the run had packed ones."""
  form = form_of(run.session.pretrained)
  if destination.format != 'merged' or not form:
    return False
  logging.getLogger(__name__).warning(
    'This run had its kernels in %s, and the merged model has them as the base does.'
    ' It is another model, so metrics of the run are not written beside it.',
    form,
  )
  return True


def _scored(
  measure: Callable[[], dict[str, float]], known: Mapping[str, float]
) -> dict[str, float]:
  """Metrics on the validation data; without these what training has measured."""
  try:
    return measure()
  except Unavailable as error:
    logging.getLogger(__name__).warning(
      '%s. The export is made without: its metrics are %s.',
      error,
      'those that training reported' if known else 'not known',
    )
    return dict(known)


def _batch(run: SavedRun) -> Batch:
  """Rows on which the export is compared with the state: of the data, if there."""
  task = run.plan.task
  try:
    return real_batch(task.splits['validation'])
  except Unavailable:
    return real_batch(run.read_rows([task.example(text) for text in _SENTENCES]))


def _check_whole(destination: Destination, max_rank: int, budget: int) -> None:
  if destination.format != 'merged' or max_rank or budget:
    raise ValueError(
      'this run changed every parameter of the model, which no adapter can hold; export'
      ' it whole with --format=merged'
    )


def _whole_model(run: SavedRun, destination: Destination) -> Release:
  """The release of a run that changed every parameter: a model without an adapter."""
  session, deployed = run.session, run.deployed
  metrics = _scored(run.evaluate, run.metrics)
  model = nnx.merge(run.plan.attachment.graph, deployed.backbone(session.params))
  names = tuple(name for slot in weights.slots_of(model) for name in slot.names)
  # No tensor comes from the base model's files.
  whole = dataclasses.replace(session.pretrained, model=model, initialised=names)
  session = dataclasses.replace(session, pretrained=whole)
  return release_of(session, Adapter({}, fetch(deployed.head)), metrics, destination)


def score(session: Session, adapter: Adapter) -> dict[str, float]:
  """The metrics of an adapter on the validation splits, on the current mesh."""
  plan, modules = session.plan, tuple(adapter.modules)
  train = plan.config.train
  evaluator = make_evaluator(
    plan.task,
    plan.attachment,
    modules,
    plan.mesh,
    train.eval_batch,
    watchdog=train.watchdog,
  )
  deployed = deploy_adapter(adapter, modules)
  largest = max(adapter.ranks.values())
  return evaluator.validation(session.params, deployed, largest).metrics


def release_of(
  session: Session,
  adapter: Adapter,
  metrics: dict[str, float],
  destination: Destination,
) -> Release:
  """The adapter with all that its model card says."""
  plan = session.plan
  chat = plan.task.chat
  return Release(
    adapter=adapter,
    base=session.pretrained,
    base_name=destination.base_name or public_name(session.pretrained.source),
    base_commit=_commit(plan, destination),
    task=plan.task.name,
    label_names=plan.task.label_names,
    metrics=metrics,
    max_length=plan.config.data.max_length,
    chat_template=chat.template.text if chat else '',
    stop_ids=chat.stop_ids if chat else (),
  )


def public_name(source: Source) -> str:
  """What torch can load as the base: the id of a repository, else the folder."""
  return source.commit.repo if source.commit else str(source.folder.absolute())


def _commit(plan: Plan, destination: Destination) -> HubCommit | None:
  """The commit of the base, unless its files get a name that is not of the hub's."""
  commit = plan.commits.model
  return commit if destination.base_name in ('', commit and commit.repo) else None


def write(release: Release, batch: Batch, destination: Destination) -> dict[str, Any]:
  """Writes one of the formats and reports what was measured on the way."""
  report = _writer(release, batch, destination)
  return {
    'out': str(report.folder),
    'format': destination.format,
    'components': sum(release.adapter.ranks.values()),
    'parameters': report.parameters,
    'delta_error': report.delta_error,
    'logit_gap': report.logit_gap,
    **release.metrics,
  }


def _writer(release: Release, batch: Batch, destination: Destination) -> Report:
  if destination.format == 'merged':
    return write_merged(release, destination.out, batch)
  if destination.format == 'gguf':
    return write_gguf(release, destination.out, batch)
  uniform = destination.format == 'peft-uniform'
  beside = destination.tokenizer
  return write_peft(release, destination.out, batch, uniform=uniform, tokenizer=beside)


def real_batch(split: Split) -> Batch:
  """The first rows of a split as a model's inputs."""
  names = ('ids_BL', 'mask_BL', 'types_BL')
  columns = trimmed({k: v for k, v in split.columns.items() if k in names})
  return {name: column[:_ROWS][:, :_POSITIONS] for name, column in columns.items()}
