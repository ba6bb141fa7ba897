"""`--mode=predict`: writes predictions for a user's own file."""

import functools
import pathlib
from collections.abc import Callable

from adapad_jax.commands import Request
from adapad_jax.commands.outputs import check_outputs
from adapad_jax.processes import is_first
from adapad_jax.tasks.files import existing_table
from adapad_jax.tasks.load import default_suffix, prediction_files
from adapad_jax.tasks.predictions import write_table
from adapad_jax.tasks.sft.load import TASKS as CHATS
from adapad_jax.tasks.sft.reading import read_file
from adapad_jax.tasks.text_files import kind_of
from adapad_jax.training.claim import read_workdir
from adapad_jax.training.completions import Decoding, complete
from adapad_jax.training.cutting import check_cut
from adapad_jax.training.saved import SavedRun, restore
from adapad_jax.training.terminal import say

# Number of rows, and what writes them to a path.
Written = tuple[int, Callable[[pathlib.Path], None]]
# Flags of decoders that answer prompts.
DECODING = ('temperature', 'top_k', 'top_p', 'max_new_tokens', 'stop', 'seed')


def run(request: Request) -> None:
  """Reads --input, or a --split of the task, and writes --output.

  A file that exists is replaced only with --overwrite, and --input never is. A run of
  task 'sft' answers the rows; those of other tasks are classified, and so on.

  Raises:
    ValueError: without --input or --split, or if one cannot be read; if the output
      exists or cannot be written there, the update cannot be cut as asked, or the task
      does not know a flag.
  """
  options = request.options
  check_cut(options['max_rank'], options['budget'])
  if bool(options['input']) == bool(options['split']):
    raise ValueError('predict needs --input=FILE, or --split=NAME of the task')
  # All of this before data and weights are read.
  source = existing_table(options['input']) if options['input'] else None
  data = read_workdir(request.run_folder()).data
  _check_flags(request, data.task)
  decoding = Decoding.of(data.generation, options)
  suffix = default_suffix(data.task)
  output = pathlib.Path(options['output'] or default_output(request, suffix))
  output = output.expanduser()
  check = functools.partial(
    check_outputs,
    prediction_files(data.task, output),
    overwrite=options.get('overwrite', False),
    source=source,
  )
  check()
  saved = restore(request.run_folder(), options['checkpoint'])
  count, write = (
    _answers(saved, request, source, decoding)
    if saved.plan.task.chat
    else _predictions(saved, request, source)
  )
  if is_first():
    check()  # Another process may have come first.
    write(output)
  say(f'{count} predictions in {output}')


def _check_flags(request: Request, task: str) -> None:
  for name in DECODING:
    if request.options.get(name) is not None and task not in CHATS:
      raise ValueError(
        f"--{name} is for runs of task 'sft', whose decoder answers prompts; this one"
        f' is of task {task!r}'
      )


def _predictions(
  saved: SavedRun, request: Request, source: pathlib.Path | None
) -> Written:
  options, task = request.options, saved.plan.task
  split = task.read(source) if source else task.splits[options['split']]
  outputs = saved.outputs(split, options['max_rank'], options['budget'])
  write = functools.partial(task.write_predictions, split, outputs)
  return len(split), write


def _answers(
  saved: SavedRun, request: Request, source: pathlib.Path | None, decoding: Decoding
) -> Written:
  options = request.options
  if source:
    rows = read_file(source)
    given = [(rows.place(number), number, row) for number, row in rows.read()]
  else:
    held = saved.plan.task.splits[options['split']].host
    numbers = held.store.row_N[held.index_N].tolist()
    raw = held.raw(range(len(held)))
    given = [(f'row {n}', n, row) for n, row in zip(numbers, raw, strict=True)]
  asked = [(place, row) for place, _, row in given]
  cells = complete(saved, asked, decoding, options['max_rank'], options['budget'])
  cells['row'] = [number for _, number, _ in given]
  return len(given), functools.partial(write_table, columns=cells)


def default_output(request: Request, suffix: str) -> pathlib.Path:
  """predictions-NAME with the task's suffix, in the workdir."""
  options = request.options
  stem = options['split']
  if not stem:
    path = pathlib.Path(options['input'])
    kind, packed = kind_of(path)
    stem = path.name[: len(path.name) - len(kind) - 3 * packed]
  return request.run_folder() / f'predictions-{stem}{suffix}'
