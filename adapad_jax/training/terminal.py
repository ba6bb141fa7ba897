"""What a run says: a progress bar on a terminal, plain lines in a log."""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import rich.console
import rich.progress

from adapad_jax.adapters.targets import layer_of
from adapad_jax.processes import is_first

_SECONDS_BETWEEN_LINES = 15.0
# Of a terminal that nobody has widened.
_COLUMNS = 80
# Characters that are shown of a text.
_LONGEST = 300


class Display:
  """Shows where a run stands."""

  def __init__(
    self, rounds: int, done: int, bar: rich.progress.Progress | None
  ) -> None:
    self._rounds, self._bar = rounds, bar
    self._start: float | None = None
    self._first, self._last = done, 0.0
    self._metric = ''
    # The first round takes its seconds from the compiler: no rate is known before it.
    compiling = 'compiling' if done < rounds else ''
    if bar is not None:
      self._task = bar.add_task(
        'training', total=rounds, completed=done, note=compiling
      )
    elif compiling:
      say(f'{compiling}, then round {done + 1} of {rounds}')

  def step(self, done: int, loss: float, rank: int, budget: int) -> None:
    """Shows a round; in a log only every so many seconds."""
    note = f'loss {loss:.4f}  rank {rank}/{budget}{self._metric}'
    if self._start is None:
      self._start, self._first = time.monotonic(), done
    if self._bar is not None:
      self._bar.update(self._task, completed=done, note=note)
    elif time.monotonic() - self._last > _SECONDS_BETWEEN_LINES or done == self._rounds:
      self._last = time.monotonic()
      say(f'round {done}/{self._rounds}  {note}{self._time_left(done)}')

  def metric(self, done: int, name: str, value: float) -> None:
    """Shows the outcome of an evaluation."""
    self._metric = f'  eval {name} {value:.4f}'
    if self._bar is None:
      say(f'round {done}/{self._rounds}  evaluation: {name} {value:.4f}')

  def note(self, text: str) -> None:
    """Shows lines of text above the bar, or in the log."""
    if self._bar is None:
      say(text)
    else:
      self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

  def _time_left(self, done: int) -> str:
    """'  12 s left', by the rounds since the first; '' after that one."""
    if done == self._first:
      return ''
    rate = (time.monotonic() - self._start) / (done - self._first)
    return f'  {rate * (self._rounds - done):.0f} s left'


@contextlib.contextmanager
def display(rounds: int, done: int) -> Iterator[Display]:
  """A display for a run of so many rounds, of which some are done."""
  console = rich.console.Console()
  if not (console.is_terminal and is_first()):
    yield Display(rounds, done, None)
    return
  columns = (
    rich.progress.TextColumn('{task.completed}/{task.total}'),
    rich.progress.BarColumn(),
    rich.progress.TextColumn('{task.fields[note]}'),
    rich.progress.TimeRemainingColumn(),
  )
  with rich.progress.Progress(*columns, console=console) as bar:
    yield Display(rounds, done, bar)


def say(text: str) -> None:
  """Prints lines as they are, at once; of several processes, the first does."""
  if is_first():
    print(text, flush=True)


def shown_samples(samples: Sequence[Mapping[str, Any]], done: int) -> str:
  """What a model has said, beside what it should have."""
  lines = []
  for number, one in enumerate(samples, start=1):
    mark = {True: ', right', False: ', wrong', None: ''}[one.get('right')]
    lines.append(f'sample {number} after round {done}{mark}')
    for name in ('prompt', 'reference', 'answer'):
      lines.append(f'  {name:9}  {one_line(one[name])}')
  return '\n'.join(lines)


def one_line(text: str) -> str:
  """Text on one line, without its middle if it is long."""
  text = ' '.join(text.split())
  if len(text) <= _LONGEST:
    return text
  return f'{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}'


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
  """Columns of text, numbers to the right."""
  cells = [[str(cell) for cell in row] for row in (header, *rows)]
  widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
  right = [
    all(isinstance(row[i], int | float) for row in rows) and bool(rows)
    for i in range(len(header))
  ]
  align = lambda cell, i: cell.rjust(widths[i]) if right[i] else cell.ljust(widths[i])
  return '\n'.join(
    '  ' + '  '.join(align(cell, i) for i, cell in enumerate(row)).rstrip()
    for row in cells
  )


def number(value: float | None) -> str:
  """Four decimals, or a dash where a metric is missing, None (as in JSON) or NaN."""
  return '-' if value is None or math.isnan(value) else f'{value:.4f}'


def metric_names(*states: Mapping[str, float]) -> list[str]:
  """The metrics that any of several states or baselines has, in their order."""
  return list(dict.fromkeys(name for state in states for name in state))


def rank_map(ranks: Mapping[str, int]) -> str:
  """One row a kind of module, one column a layer, the rank in each place.

  Where that would not fit a terminal and no rank has two digits, columns are one
  character wide, below the digits of the layer's number.
  """
  kinds: dict[str, dict[int, int]] = {}
  for name, rank in ranks.items():
    kind, layer = kind_of(name)
    kinds.setdefault(kind, {})[layer or 0] = rank
  layers = sorted({layer for row in kinds.values() for layer in row})
  rows = [[kind, *(row.get(i, '.') for i in layers)] for kind, row in kinds.items()]
  spread = table(['layer', *layers], rows)
  widest = max(map(len, spread.splitlines()))
  if widest <= _COLUMNS or max(ranks.values()) > 9:
    return spread
  packed = [[kind, ''.join(map(str, cells))] for kind, *cells in rows]
  tens = ''.join(str(i // 10) if i >= 10 and i % 10 == 0 else ' ' for i in layers)
  ones = ''.join(str(i % 10) for i in layers)
  return table(['layer', tens.rstrip()], [['', ones], *packed])


def kind_of(name: str) -> tuple[str, int | None]:
  """('attention.self.query', 3) for '...layer.3.attention.self.query'."""
  layer = layer_of(name)
  return (name if layer is None else name.split(f'.{layer}.', 1)[1]), layer
