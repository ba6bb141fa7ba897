"""How far tokenising is: a moving line on a terminal, a line now and then in a log."""

import time
from types import TracebackType

import rich.console
import rich.progress

from adapad_jax.processes import is_first

_SECONDS_BETWEEN_LINES = 10.0


class RowCounter:
  """Shows rows, tokens and rows a second, once there has been something to wait for.

  Args:
    what: what is done, e.g. 'tokenising train'.
  """

  def __init__(self, what: str) -> None:
    self._what, self._rows, self._tokens = what, 0, 0
    self._start = self._last = time.monotonic()
    self._console = rich.console.Console(stderr=True)
    self._bar: rich.progress.Progress | None = None

  def __enter__(self) -> 'RowCounter':
    if self._console.is_terminal and is_first():
      columns = (
        rich.progress.SpinnerColumn(),
        rich.progress.TextColumn('{task.description}'),
        rich.progress.TimeElapsedColumn(),
      )
      self._bar = rich.progress.Progress(*columns, console=self._console)
      self._bar.start()
      self._task = self._bar.add_task(self._what, total=None)
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    if self._bar is not None:
      self._bar.stop()
    elif self._last > self._start:
      self._say()

  def advance(self, rows: int, tokens: int) -> None:
    """Counts rows that are done, and tells how many tokens there are now."""
    self._rows, self._tokens = self._rows + rows, tokens
    if self._bar is not None:
      self._bar.update(self._task, description=self._line())
    elif time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
      self._last = time.monotonic()
      self._say()

  def _say(self) -> None:
    if is_first():
      self._console.print(self._line(), highlight=False, soft_wrap=True)

  def _line(self) -> str:
    rate = self._rows / max(time.monotonic() - self._start, 1e-6)
    return (
      f'{self._what}: {self._rows:,} rows, {self._tokens:,} tokens, {rate:,.0f} rows/s'
    )
