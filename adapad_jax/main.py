"""Parses flags, then calls the mode that they name. Everything else is a library.

python -m adapad_jax.main --config=configs/glue.py:quickstart
"""

import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file('config', None, 'What to train.')
flags.DEFINE_string('mode', 'train', 'train, eval, report, export, import, ...')
flags.DEFINE_string('workdir', None, 'Folder of the run; runs/... if not given.')
flags.DEFINE_bool('dry_run', False, 'Only print what training would do.')
flags.DEFINE_string('checkpoint', 'best', 'Which state to restore: best or latest.')
flags.DEFINE_string('split', '', 'Split to evaluate or predict.')
flags.DEFINE_string('input', '', 'File to predict.')
flags.DEFINE_string('output', '', 'Where predictions go; the suffix is the format.')
flags.DEFINE_integer('max_rank', 0, 'Cut every module to so many components; 0: all.')
flags.DEFINE_integer('budget', 0, 'Keep so many components over all modules; 0: all.')
flags.DEFINE_string('format', 'peft', 'Of an export: peft, peft-uniform or merged.')
flags.DEFINE_string('out', '', 'Folder of an export, which must not exist yet.')
flags.DEFINE_string('base_name', '', 'What an export calls its base model.')
flags.DEFINE_string('adapter', '', 'Folder of a PEFT adapter to import or re-rank.')
flags.DEFINE_string('tuned', '', 'Fully fine-tuned model to re-rank, as model.source.')
flags.DEFINE_string('coordinator', '', 'HOST:PORT where several processes meet.')
flags.DEFINE_integer('processes', 0, 'How many processes there are; 0: this one.')
flags.DEFINE_integer('process_id', -1, 'Which of them this is; 0 writes and talks.')
flags.DEFINE_bool('cluster', False, 'Find the processes of SLURM, Open MPI, a TPU pod.')
flags.DEFINE_integer('heartbeat', 30, 'Seconds after which a silent process is dead.')
_OPTIONS = (
  'dry_run',
  'checkpoint',
  'split',
  'input',
  'output',
  'max_rank',
  'budget',
  'format',
  'out',
  'base_name',
  'adapter',
  'tuned',
)


def main(argv: list[str]) -> None:
  """Runs one mode; what the user can mend ends in one line, not in a traceback."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {argv[1:]}')
  # transformers advises to install torch, which nothing here needs.
  os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')
  # After the flags, so that --help does not wait for jax.
  from adapad_jax.commands import Request, registry
  from adapad_jax.compilation import keep_compiled
  from adapad_jax.interrupt import ending_at_once
  from adapad_jax.processes import Cluster, ending_together
  from adapad_jax.training import Diverged, Interrupted
  from adapad_jax.training.terminal import say

  keep_compiled()
  values = flags.FLAGS
  if not values['verbosity'].present:
    # orbax says much that is of no use to the user; --verbosity=0 shows it.
    logging.set_verbosity(logging.WARNING)
  request = Request(
    config=None if _CONFIG.value is None else _CONFIG.value.to_dict(),
    workdir=pathlib.Path(values.workdir) if values.workdir else None,
    options={name: values[name].value for name in _OPTIONS},
  )
  with ending_at_once(f'--mode={values.mode}'), ending_together():
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
    except (ValueError, Diverged) as error:
      sys.exit(f'error: {error}')


def parse(argv: list[str]) -> list[str]:
  """Parses the flags; a config that cannot be read ends in one line as well."""
  try:
    return flags.FLAGS(argv)
  except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
    # The last line is the cause, whatever the config library wrapped around it.
    cause = str(error).strip().replace('\\n', '\n').splitlines()[-1].strip('\'" ')
    sys.exit(f'error: {cause.removeprefix("ValueError: ")}; --help lists all flags')


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
