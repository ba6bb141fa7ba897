"""The modes by name."""

import dataclasses
import importlib
from collections.abc import Callable

from adapad_jax.commands import Request
from adapad_jax.commands.flags import TOGETHER, expanded, require_read
from adapad_jax.processes import require_one
from adapad_jax.settings import did_you_mean


def _of(file: str) -> Callable[[Request], None]:
  """`run` of a file here, imported when it is called: no mode waits for another's."""

  def run_mode(request: Request) -> None:
    importlib.import_module(f'adapad_jax.commands.{file}').run(request)

  return run_mode


MODES: dict[str, Callable[[Request], None]] = {
  'train': _of('train'),
  'eval': _of('evaluate'),
  'predict': _of('predict'),
  'chat': _of('chat'),
  'export': _of('export'),
  'push': _of('push'),
  'import': _of('import_adapter'),
  'rerank': _of('rerank'),
  'info': _of('info'),
  'report': _of('report'),
}


def run(mode: str, request: Request) -> None:
  """Runs a mode.

  Raises:
    ValueError: if there is none of that name, it needs a single process, or it does
      not read a flag that was given.
  """
  if mode not in MODES:
    raise ValueError(f'unknown --mode {mode!r}{did_you_mean(mode, MODES)}')
  require_read(mode, request.given)
  if mode not in TOGETHER:
    require_one(f'--mode={mode}')
  MODES[mode](dataclasses.replace(request, options=expanded(request.options)))
