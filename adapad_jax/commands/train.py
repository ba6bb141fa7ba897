"""`--mode=train`: trains, or goes on; `--dry_run` only says what it would do."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from adapad_jax.commands import Request
from adapad_jax.files import read_json
from adapad_jax.processes import is_first, require_one
from adapad_jax.report import REPORT, can_draw, how_to_install, write_report
from adapad_jax.settings import did_you_mean
from adapad_jax.training.begun import plan_in
from adapad_jax.training.claim import make_record, read_workdir, require_same_run
from adapad_jax.training.config import FinetuneConfig, finetune_config
from adapad_jax.training.fits import fits
from adapad_jax.training.plan import make_plan, on_devices_at_hand
from adapad_jax.training.record import read_record, require_same_record
from adapad_jax.training.result import summarise
from adapad_jax.training.summary import dry_run
from adapad_jax.training.terminal import say
from adapad_jax.training.train import train
from adapad_jax.workdir import RESULT, at, command_for, require_usable, stored


def run(request: Request) -> None:
  """Runs the program that the config names.

  Raises:
    ValueError: without a config, or for one that cannot work.
  """
  if request.config is None:
    if request.workdir is None:
      raise ValueError('training needs --config=FILE, e.g. configs/glue.py:quickstart')
    _finetune(request)
    return
  program = request.config.get('program', 'finetune')
  if program not in PROGRAMS:
    raise ValueError(f'unknown program {program!r}{did_you_mean(program, PROGRAMS)}')
  PROGRAMS[program](request)


def _finetune(request: Request) -> None:
  if request.config is None:  # goes on with what is there
    config = on_devices_at_hand(read_workdir(request.run_folder()))
  else:
    config = finetune_config(request.config)
  if request.options['dry_run']:
    if request.workdir is None:
      plan = make_plan(config, needs_weights=False)
    else:
      plan = plan_in(at(request.workdir), config, needs_weights=False)
    say(dry_run(plan))
    say(fits(plan))
    if not (config.model.random_weights or plan.outlined.source.has_weights()):
      say(f'note: {plan.outlined.source} holds no weights, which training needs')
    return
  workdir = at(request.workdir or default_workdir(config))
  require_usable(workdir)
  require_same_run(workdir, config)
  if (workdir / RESULT).is_file():
    if request.config is not None:
      _require_same_data(workdir, config)
    say(f'{workdir} holds a finished run; its outcome was:')
    result = read_json(workdir / RESULT, stored.RESULT)
  else:
    result = train(config, workdir)
  if is_first():
    say(summarise(result, str(workdir)))
    say(_report(workdir))


def _require_same_data(workdir: pathlib.Path, config: FinetuneConfig) -> None:
  """Refuses to show the outcome of a run for data or a model that are others now."""
  then = read_record(workdir)
  if then is not None:
    require_same_record(workdir, then, make_record(plan_in(workdir, config)))


def _report(workdir: pathlib.Path) -> str:
  """Draws the report if it is not there; says where it is, or how to get it."""
  if not can_draw():
    return f'no {REPORT}: {how_to_install()}; then\n  {command_for("report", workdir)}'
  path = workdir / REPORT
  return f'report: {path if path.is_file() else write_report(workdir)}'


def _regression(request: Request) -> None:
  from adapad_jax.regression.run import run as run_regression

  require_one('program regression')
  config = request.config
  workdir = request.workdir or pathlib.Path('runs') / (
    f'regression-{config.get("method", "parallel")}-{config.get("seed", 0)}'
  )
  result = run_regression(config, workdir, request.options['dry_run'])
  say(json.dumps(result, indent=2))
  if can_draw() and not request.options['dry_run']:
    write_report(workdir)


def default_workdir(config: FinetuneConfig) -> pathlib.Path:
  """runs/TASK-METHOD-SEED."""
  name = f'{config.data.task}-{config.method}-{config.seed}'
  return pathlib.Path('runs') / name


PROGRAMS: Mapping[str, Any] = {'finetune': _finetune, 'regression': _regression}
