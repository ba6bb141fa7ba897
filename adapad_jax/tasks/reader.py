"""Tables that are read when they are asked for, and the files they are read from."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from adapad_jax.origins import HubCommit
from adapad_jax.tasks.table import Table

Read = Callable[[], Table]


@dataclasses.dataclass(frozen=True)
class Reader:
  """Reads a table when it is called.

  Attributes:
    read: does it.
    files: what it reads; none for what comes from a hub.
    hub: the commit that it is from; None for files.
    names: names of the classes of each column that has such, in their order.
  """

  read: Read
  files: tuple[pathlib.Path, ...] = ()
  hub: HubCommit | None = None
  names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, path: pathlib.Path, read: Callable[[pathlib.Path], Table]) -> 'Reader':
    """Reads one file."""
    return cls(functools.partial(read, path), (path,))

  def __call__(self) -> Table:
    """Reads it."""
    return self.read()

  def having(self, table: Table) -> 'Reader':
    """Gives a table that was read already to whoever asks first, then reads again."""
    left = [table]
    return dataclasses.replace(self, read=lambda: left.pop() if left else self.read())

  def then(self, change: Callable[[Table], Table]) -> 'Reader':
    """Reads the same files, and gives what becomes of their table."""
    return dataclasses.replace(self, read=lambda: change(self.read()))


def as_reader(read: Read) -> Reader:
  """A reader; a plain function becomes one that says nothing of itself."""
  return read if isinstance(read, Reader) else Reader(read)


def files_of(read: Read) -> tuple[pathlib.Path, ...]:
  """The files that a reader says it reads; a plain function says of none."""
  return as_reader(read).files


def hub_of(reads: Iterable[Read]) -> HubCommit | None:
  """The commit of the hub that tables are from; None if all are files."""
  return next(filter(None, (as_reader(read).hub for read in reads)), None)


class Readers(Mapping[str, Read]):
  """Readers by split, found when the first is asked for.

  A run that is opened to predict so touches no folder of training data.

  Args:
    find: finds them.
  """

  def __init__(self, find: Callable[[], Mapping[str, Read]]) -> None:
    self._find = functools.cache(find)

  def __getitem__(self, name: str) -> Read:
    return self._find()[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._find())

  def __len__(self) -> int:
    return len(self._find())
