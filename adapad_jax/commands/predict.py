"""`--mode=predict`: writes predictions for a user's own file."""

import pathlib

import jax

from adapad_jax.commands import Request
from adapad_jax.training.plan import make_plan
from adapad_jax.training.session import open_run, read_workdir
from adapad_jax.training.terminal import say


def run(request: Request) -> None:
  """Reads --input, or a --split of the task, and writes --output.

  Raises:
    ValueError: without --input or --split, or if one cannot be read.
  """
  options = request.options
  if bool(options['input']) == bool(options['split']):
    raise ValueError('predict needs --input=FILE, or --split=NAME of the task')
  plan = make_plan(read_workdir(request.run_folder()))
  if options['input']:
    split = plan.task.read(options['input'])
  else:
    split = plan.task.splits[options['split']]
  output = pathlib.Path(options['output'] or default_output(request, plan.task.suffix))
  with jax.set_mesh(plan.mesh):
    opened = open_run(plan, request.run_folder(), options['checkpoint'])
    prefix = options['max_rank'] or plan.method.capacity
    evaluator = opened.session.evaluator()
    outputs = evaluator.outputs(opened.session.params, opened.deployed, split, prefix)
  plan.task.write_predictions(split, outputs, output)
  say(f'{len(split)} predictions in {output}')


def default_output(request: Request, suffix: str) -> pathlib.Path:
  """predictions-NAME with the task's suffix, in the workdir."""
  options = request.options
  stem = options['split'] or pathlib.Path(options['input']).stem
  return request.run_folder() / f'predictions-{stem}{suffix}'
