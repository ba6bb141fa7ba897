"""`--mode=predict`: writes predictions for a user's own file."""

import pathlib

from adapad_jax.commands import Request
from adapad_jax.processes import is_first
from adapad_jax.tasks.files import existing
from adapad_jax.training.cutting import check_cut
from adapad_jax.training.saved import restore
from adapad_jax.training.terminal import say


def run(request: Request) -> None:
  """Reads --input, or a --split of the task, and writes --output.

  Raises:
    ValueError: without --input or --split, or if one cannot be read, or the update
      cannot be cut as asked.
  """
  options = request.options
  check_cut(options['max_rank'], options['budget'])
  if bool(options['input']) == bool(options['split']):
    raise ValueError('predict needs --input=FILE, or --split=NAME of the task')
  if options['input']:
    existing(options['input'])  # Before weights are read.
  saved = restore(request.run_folder(), options['checkpoint'])
  task, source = saved.plan.task, options['input']
  split = task.read(source) if source else task.splits[options['split']]
  output = pathlib.Path(options['output'] or default_output(request, task.suffix))
  outputs = saved.outputs(split, options['max_rank'], options['budget'])
  if is_first():
    task.write_predictions(split, outputs, output)
  say(f'{len(split)} predictions in {output}')


def default_output(request: Request, suffix: str) -> pathlib.Path:
  """predictions-NAME with the task's suffix, in the workdir."""
  options = request.options
  stem = options['split'] or pathlib.Path(options['input']).stem
  return request.run_folder() / f'predictions-{stem}{suffix}'
