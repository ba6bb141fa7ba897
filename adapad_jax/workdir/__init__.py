"""The folder of a run, whatever program it is of: file names, lock, config, lines."""

from adapad_jax.workdir.config import (
  begin,
  config_of,
  is_regression,
  require_same_config,
  result_of,
)
from adapad_jax.workdir.folder import (
  CHECKPOINTS,
  CONFIG,
  LOCK,
  METRICS,
  RANKS,
  RECORD,
  RESULT,
  SAMPLES,
  SPECTRA,
  absolute,
  at,
  locked,
  require_usable,
)
from adapad_jax.workdir.lines import JsonLines, read_lines
from adapad_jax.workdir.shell import command_for
from adapad_jax.workdir.versions import versions

__all__ = [
  'CHECKPOINTS',
  'CONFIG',
  'LOCK',
  'METRICS',
  'RANKS',
  'RECORD',
  'RESULT',
  'SAMPLES',
  'SPECTRA',
  'JsonLines',
  'absolute',
  'at',
  'begin',
  'command_for',
  'config_of',
  'is_regression',
  'locked',
  'read_lines',
  'require_same_config',
  'require_usable',
  'result_of',
  'versions',
]
