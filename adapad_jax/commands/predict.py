"""`--mode=predict`: writes predictions for a user's own file."""

import functools
import pathlib

from adapad_jax.commands import Request
from adapad_jax.commands.outputs import check_outputs
from adapad_jax.processes import is_first
from adapad_jax.tasks.files import existing_table
from adapad_jax.tasks.load import default_suffix, prediction_files
from adapad_jax.tasks.text_files import kind_of
from adapad_jax.training.claim import read_workdir
from adapad_jax.training.cutting import check_cut
from adapad_jax.training.saved import restore
from adapad_jax.training.terminal import say


def run(request: Request) -> None:
  """Reads --input, or a --split of the task, and writes --output.

  A file that exists is replaced only with --overwrite, and --input never is.

  Raises:
    ValueError: without --input or --split, or if one cannot be read; if the output
      exists or cannot be written there, or the update cannot be cut as asked.
  """
  options = request.options
  check_cut(options['max_rank'], options['budget'])
  if bool(options['input']) == bool(options['split']):
    raise ValueError('predict needs --input=FILE, or --split=NAME of the task')
  # All of this before data and weights are read.
  source = existing_table(options['input']) if options['input'] else None
  task = read_workdir(request.run_folder()).data.task
  suffix = default_suffix(task)
  output = pathlib.Path(options['output'] or default_output(request, suffix))
  output = output.expanduser()
  check = functools.partial(
    check_outputs,
    prediction_files(task, output),
    overwrite=options.get('overwrite', False),
    source=source,
  )
  check()
  saved = restore(request.run_folder(), options['checkpoint'])
  task = saved.plan.task
  split = task.read(source) if source else task.splits[options['split']]
  outputs = saved.outputs(split, options['max_rank'], options['budget'])
  if is_first():
    check()  # Another process may have come first.
    task.write_predictions(split, outputs, output)
  say(f'{len(split)} predictions in {output}')


def default_output(request: Request, suffix: str) -> pathlib.Path:
  """predictions-NAME with the task's suffix, in the workdir."""
  options = request.options
  stem = options['split']
  if not stem:
    path = pathlib.Path(options['input'])
    kind, packed = kind_of(path)
    stem = path.name[: len(path.name) - len(kind) - 3 * packed]
  return request.run_folder() / f'predictions-{stem}{suffix}'
