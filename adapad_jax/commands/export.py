"""`--mode=export`: a trained run becomes files that other libraries load."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
from flax import nnx

from adapad_jax.adapters import Adapter
from adapad_jax.adapters.prefixes import cut_to_budget, cut_to_rank
from adapad_jax.commands import Request
from adapad_jax.interchange import Release, Report, write_merged, write_peft
from adapad_jax.models import sources, weights
from adapad_jax.settings import did_you_mean
from adapad_jax.sharding import fetch
from adapad_jax.tasks import Split
from adapad_jax.tasks.task import Batch
from adapad_jax.training.batches import trimmed
from adapad_jax.training.evaluate import make_evaluator
from adapad_jax.training.hosted import deploy_adapter
from adapad_jax.training.plan import Plan, make_plan
from adapad_jax.training.session import (
  Opened,
  Session,
  host_adapter,
  open_run,
  read_workdir,
)
from adapad_jax.training.terminal import say

FORMATS = ('peft', 'peft-uniform', 'merged')
# Real rows on which an export is compared with the state.
_ROWS = 8


def run(request: Request) -> None:
  """Cuts the adapter if asked to, scores what is left, writes it and checks it.

  Raises:
    ValueError: if there is no such run or format, or the export is not right.
  """
  options = request.options
  check_format(options)
  plan = make_plan(read_workdir(request.run_folder()))
  with jax.set_mesh(plan.mesh):
    opened = open_run(plan, request.run_folder(), options['checkpoint'])
    if opened.deployed.changes is not None:
      release = _whole_model(opened, options)
    else:
      adapter = cut(host_adapter(plan.modules, opened.deployed), options)
      metrics = score(opened.session, adapter)
      release = release_of(opened.session, adapter, metrics, options)
  say(json.dumps(write(release, plan.task.splits['validation'], options)))


def _whole_model(opened: Opened, options: dict[str, Any]) -> Release:
  """The release of a run that changed every parameter: a model without an adapter."""
  if options['format'] != 'merged' or options['max_rank'] or options['budget']:
    raise ValueError(
      'this run changed every parameter of the model, which no adapter can hold; export'
      ' it whole with --format=merged'
    )
  session, deployed = opened.session, opened.deployed
  metrics = session.evaluator().validate(session.params, deployed, 0)
  model = nnx.merge(session.plan.attachment.graph, deployed.backbone(session.params))
  names = tuple(name for slot in weights.slots_of(model) for name in slot.names)
  # No tensor comes from the base model's files.
  whole = dataclasses.replace(session.pretrained, model=model, initialised=names)
  session = dataclasses.replace(session, pretrained=whole)
  return release_of(session, Adapter({}, fetch(deployed.head)), metrics, options)


def check_format(options: dict[str, Any]) -> None:
  """Checks --format and --out before anything slow starts.

  Raises:
    ValueError: if one is missing or unknown, or there is more than one kind of cut.
  """
  if options['format'] not in FORMATS:
    hint = did_you_mean(options['format'], FORMATS)
    raise ValueError(f'unknown --format {options["format"]!r}{hint}')
  if not options['out']:
    raise ValueError('this mode needs --out=FOLDER, which must not exist yet')


def cut(adapter: Adapter, options: dict[str, Any]) -> Adapter:
  """The prefix that --max_rank or --budget asks for; all without them.

  Raises:
    ValueError: if both are given or one is negative.
  """
  if options['max_rank'] and options['budget']:
    raise ValueError('give --max_rank or --budget, not both')
  if options['max_rank']:
    return cut_to_rank(adapter, options['max_rank'])
  return cut_to_budget(adapter, options['budget']) if options['budget'] else adapter


def score(session: Session, adapter: Adapter) -> dict[str, float]:
  """The metrics of an adapter on the validation splits, on the current mesh."""
  plan, modules = session.plan, tuple(adapter.modules)
  rows = plan.config.train.eval_batch
  evaluator = make_evaluator(plan.task, plan.attachment, modules, plan.mesh, rows)
  deployed = deploy_adapter(adapter, modules)
  return evaluator.validate(session.params, deployed, max(adapter.ranks.values()))


def release_of(
  session: Session,
  adapter: Adapter,
  metrics: dict[str, float],
  options: dict[str, Any],
) -> Release:
  """The adapter with all that its model card says."""
  plan: Plan = session.plan
  return Release(
    adapter=adapter,
    base=session.pretrained,
    base_name=options['base_name'] or public_name(plan.config.model.source),
    task=plan.task.name,
    label_names=plan.task.label_names,
    metrics=metrics,
    max_length=plan.config.data.max_length,
  )


def public_name(source: str) -> str:
  """What torch can load as the base: a hub id as it is, else the folder."""
  folder = pathlib.Path(source).expanduser()
  is_local = source.startswith('package:') or folder.is_dir()
  return str(sources.resolve(source).absolute()) if is_local else source


def write(release: Release, split: Split, options: dict[str, Any]) -> dict[str, Any]:
  """Writes one of the formats and reports what was measured on the way."""
  report = _writer(release, split, options)
  return {
    'out': str(report.folder),
    'format': options['format'],
    'components': sum(release.adapter.ranks.values()),
    'parameters': report.parameters,
    'delta_error': report.delta_error,
    'logit_gap': report.logit_gap,
    **release.metrics,
  }


def _writer(release: Release, split: Split, options: dict[str, Any]) -> Report:
  batch = real_batch(split)
  if options['format'] == 'merged':
    return write_merged(release, options['out'], batch)
  uniform = options['format'] == 'peft-uniform'
  return write_peft(release, options['out'], batch, uniform=uniform)


def real_batch(split: Split) -> Batch:
  """The first rows of a split as a model's inputs."""
  names = ('ids_BL', 'mask_BL', 'types_BL')
  columns = trimmed({k: v for k, v in split.columns.items() if k in names})
  return {name: column[:_ROWS] for name, column in columns.items()}
