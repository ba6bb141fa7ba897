"""Parses flags, then calls the mode that they name. Everything else is a library.

python -m adapad_jax.main --config=configs/glue.py:quickstart
"""

# ruff: noqa: E402
import atexit
import gc
import sys

from adapad_jax import freed_memory, interrupt, left_out

if __name__ == '__main__':
  freed_memory.start_again('adapad_jax.main')
  # Before the other imports, in the middle of which Ctrl-C would show a traceback.
  interrupt.leave_on_interrupt()
  # What is imported and traced stays: looking through it for garbage again and again,
  # as after every 700 new objects, takes a tenth of a start. So it is left until there
  # are more objects than a start makes, and done as after every 50,000 from there on.
  gc.set_threshold(1_000_000)
  gc.callbacks.append(lambda phase, info: gc.set_threshold(50_000))
  # Nor when all else is done in the end, which would take as long as importing jax.
  atexit.register(gc.freeze)
  # flax brings IPython in where it is installed, for notebooks, which this is not;
  # others torch, for seconds, which nothing here uses.
  left_out.leave_out('IPython', of=['flax.nnx'])
  left_out.leave_out('torch', of=['transformers', 'tensorboardX'])

import os
import pathlib

from absl import app, flags, logging
from ml_collections import config_flags

from adapad_jax.commands.flags import CONFIG, FLAGS, OPTIONS

_CONFIG = config_flags.DEFINE_config_file('config', None, CONFIG.help)
flags.DEFINE_string('mode', 'train', 'train, eval, report, export, push, import, ...')
_DEFINE = {
  bool: flags.DEFINE_bool,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  list: flags.DEFINE_multi_string,
  str: flags.DEFINE_string,
}
for _name, _flag in FLAGS.items():
  _DEFINE[_flag.type](_name, _flag.default, f'{_flag.help} [{", ".join(_flag.modes)}]')


def main(argv: list[str]) -> None:
  """Runs one mode; what the user can put right ends in one line, not in a traceback."""
  if len(argv) > 1:
    sys.exit(f'error: unexpected arguments {argv[1:]}; --help lists all flags')
  # transformers advises to install torch, which nothing here needs.
  os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')
  # After the flags, so that --help does not wait for jax.
  from adapad_jax import errors
  from adapad_jax.commands import Request, registry
  from adapad_jax.compilation import keep_compiled
  from adapad_jax.processes import Cluster, ending_together
  from adapad_jax.training import Diverged, Interrupted
  from adapad_jax.training.terminal import say

  keep_compiled()
  freed_memory.prepare_jax()
  values = flags.FLAGS
  if not values['verbosity'].present:
    # orbax says much that is of no use to the user; --verbosity=0 shows it.
    logging.set_verbosity(logging.WARNING)
    errors.quieten_threads()
  request = Request(
    config=None if _CONFIG.value is None else _CONFIG.value.to_dict(),
    workdir=pathlib.Path(values.workdir) if values.workdir else None,
    options={name: values[name].value for name in OPTIONS},
    given=tuple(name for name in ('config', *FLAGS) if values[name].present),
  )
  with interrupt.ending_at_once(f'--mode={values.mode}'), ending_together():
    try:
      Cluster(
        values.coordinator,
        values.processes,
        values.process_id,
        values.cluster,
        values.heartbeat,
      ).join()
      registry.run(values.mode, request)
    except Interrupted as stop:
      say(str(stop))
    except (*errors.KINDS, Diverged) as error:
      if (line := errors.one_line(error)) is None:
        raise
      sys.exit(f'error: {line}')


def parse(argv: list[str]) -> list[str]:
  """Parses the flags; a config that cannot be read ends in one line as well."""
  from adapad_jax import config_file

  try:
    argv = config_file.checked(argv)
    config_file.take_none()
  except ValueError as error:
    sys.exit(f'error: {" ".join(str(error).split())}')
  except flags.Error as error:
    sys.exit(f'error: {error}; --help lists all flags')
  try:
    return flags.FLAGS(argv)
  except (flags.Error, LookupError, AttributeError, TypeError, ValueError) as error:
    line = ' '.join(str(error).split())
    sys.exit(f'error: {line}; --help lists all flags')


def start() -> None:
  """Runs the program; Ctrl-C ends it in one line, with the code that shells expect."""
  try:
    app.run(main, flags_parser=parse)
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    sys.exit(130)


if __name__ == '__main__':
  start()
