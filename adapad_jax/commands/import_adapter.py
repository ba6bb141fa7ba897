"""`--mode=import`: a PEFT LoRA adapter becomes a run: to evaluate, train on, export."""

import contextlib
import dataclasses
import json
import pathlib

import jax

from adapad_jax.commands import Request
from adapad_jax.deflation.settings import AdaPaDSettings
from adapad_jax.files import finite
from adapad_jax.interchange import find_adapter, read_peft, require_same_labels
from adapad_jax.lowrank import Adapter
from adapad_jax.ranges import LARGEST_INT
from adapad_jax.training.checkpoints import KINDS, Checkpoints
from adapad_jax.training.claim import claim_workdir, make_record
from adapad_jax.training.config import FinetuneConfig, finetune_config
from adapad_jax.training.exports import score
from adapad_jax.training.plan import make_plan
from adapad_jax.training.session import Session, open_session
from adapad_jax.training.terminal import say
from adapad_jax.training.transfer import adopt
from adapad_jax.workdir import CHECKPOINTS, CONFIG, locked, require_usable


def run(request: Request) -> None:
  """Reads --adapter for the model and task of --config into a new --workdir.

  What is adapted, r_max and the budget follow the adapter; the rest of the config
  says how `--mode=train --workdir=...` would go on.

  Raises:
    ValueError: if the method is another, the adapter cannot be read or was trained for
      other labels than the task's, or the workdir is taken.
  """
  options, workdir = request.options, request.run_folder()
  if request.config is None or not options['adapter']:
    raise ValueError(
      'import needs --config=FILE for the task and --adapter=FOLDER, or the id of an'
      ' adapter on the hub'
    )
  require_usable(workdir)
  if (workdir / CONFIG).exists():
    raise ValueError(f'{workdir} holds a run already; choose another --workdir')
  config = finetune_config(request.config)
  if not isinstance(config.settings, AdaPaDSettings):
    raise ValueError(
      f"an adapter's components become those of method 'adapad', not {config.method!r}"
    )
  # What is left to grow is known once the adapter is: no schedule is too short here.
  plan = make_plan(config, begins=LARGEST_INT)
  source = find_adapter(options['adapter'])
  say(f'adapter: {source}')
  with jax.set_mesh(plan.mesh):
    first = open_session(plan)
  release = read_peft(source.folder, first.pretrained)
  require_same_labels(release.label_names, plan.task.label_names, options['adapter'])
  adapter = release.adapter
  config = fitted(config, adapter)
  # What it reads is known by now, and r_max is the adapter's.
  plan = make_plan(config, begins=sum(adapter.ranks.values()), begun=True)
  session = dataclasses.replace(first, plan=plan)
  with jax.set_mesh(plan.mesh):
    metrics = score(session, adapter)
    save(session, adapter, metrics, workdir)
  ranks = sorted(set(adapter.ranks.values()))
  found = {'workdir': str(workdir), 'modules': len(adapter.modules), 'ranks': ranks}
  found |= {'parameters': adapter.parameters()} | metrics
  say(json.dumps(finite(found)))


def fitted(config: FinetuneConfig, adapter: Adapter) -> FinetuneConfig:
  """The config with the adapter's modules, and room for its ranks."""
  settings, ranks = config.settings, adapter.ranks.values()
  settings = dataclasses.replace(
    settings,
    r_max=max(settings.r_max, *ranks),
    budget=max(settings.budget, sum(ranks), len(adapter.modules)),
  )
  targets = dataclasses.replace(
    config.adapter, targets=tuple(adapter.modules), exclude=(), layers=()
  )
  return dataclasses.replace(config, settings=settings, adapter=targets)


def save(
  session: Session, adapter: Adapter, metrics: dict[str, float], workdir: pathlib.Path
) -> None:
  """Writes the config and, as round zero, the state: both the best and the latest."""
  plan, config = session.plan, session.plan.config
  ordered = {name: adapter.modules[name] for name in plan.modules}
  adapter = dataclasses.replace(adapter, modules=ordered)
  fresh = plan.method.init(session.head)
  state = adopt(fresh, adapter, config.adapter.scale)
  state = plan.method.portable(plan.method.place(state, plan.mesh))
  here = {'step': 0, 'metrics': metrics}
  meta = {'best': here, 'last': here, 'stale': 0, 'seconds': 0.0, 'first_step': 0.0}
  with locked(workdir):
    claim_workdir(workdir, config, make_record(plan))
    with contextlib.closing(Checkpoints(workdir / CHECKPOINTS)) as checkpoints:
      for kind in KINDS:
        checkpoints.save(kind, 0, state, meta)
