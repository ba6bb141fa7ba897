"""The modes by name."""

import dataclasses
from collections.abc import Callable

from adapad_jax.commands import (
  Request,
  chat,
  evaluate,
  export,
  import_adapter,
  info,
  predict,
  push,
  report,
  rerank,
  train,
)
from adapad_jax.commands.flags import TOGETHER, expanded, require_read
from adapad_jax.processes import require_one
from adapad_jax.settings import did_you_mean

MODES: dict[str, Callable[[Request], None]] = {
  'train': train.run,
  'eval': evaluate.run,
  'predict': predict.run,
  'chat': chat.run,
  'export': export.run,
  'push': push.run,
  'import': import_adapter.run,
  'rerank': rerank.run,
  'info': info.run,
  'report': report.run,
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
