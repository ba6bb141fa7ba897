"""The modes by name."""

from collections.abc import Callable

from adapad_jax.commands import (
  Request,
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
from adapad_jax.processes import require_one
from adapad_jax.settings import did_you_mean

MODES: dict[str, Callable[[Request], None]] = {
  'train': train.run,
  'eval': evaluate.run,
  'predict': predict.run,
  'export': export.run,
  'push': push.run,
  'import': import_adapter.run,
  'rerank': rerank.run,
  'info': info.run,
  'report': report.run,
}

# What several processes can do together.
_TOGETHER = ('train', 'eval', 'predict', 'info')


def run(mode: str, request: Request) -> None:
  """Runs a mode.

  Raises:
    ValueError: if there is none of that name, or it needs a single process.
  """
  if mode not in MODES:
    raise ValueError(f'unknown --mode {mode!r}{did_you_mean(mode, MODES)}')
  if mode not in _TOGETHER:
    require_one(f'--mode={mode}')
  MODES[mode](request)
