"""Several documents in one row, so that little padding is computed.

Best-fit decreasing: documents from the longest to the shortest, each into the fullest
row that still has room for it (Johnson 1973; within 11/9 of the fewest rows). What
shares a row is decided once, so that rows stay the same for every worker and epoch; the
order in which an epoch visits rows is a function of (seed, epoch), as without packing.
"""

import numpy as np


def pack(length_N: np.ndarray, room: int) -> list[np.ndarray]:
  """Numbers of the documents that share each row, by best-fit decreasing.

  Documents of equal length are taken in their order. Rows are kept by the number of
  their free places, so a step costs a look at `room` bits and not at all rows.

  Args:
    length_N: tokens of every document, at least one.
    room: tokens of a row.

  Raises:
    ValueError: if a document is empty or longer than a row.
  """
  if len(length_N) and not 1 <= length_N.min() <= length_N.max() <= room:
    raise ValueError(
      f'documents of {length_N.min()} to {length_N.max()} tokens cannot be packed into'
      f' rows of {room}'
    )
  rows: list[list[int]] = []
  with_free: list[list[int]] = [[] for _ in range(room + 1)]
  free = _FreePlaces()
  for document in np.argsort(-length_N, kind='stable').tolist():
    length = int(length_N[document])
    place = free.least(length)
    if place is None:
      rows.append([])
      row, place = len(rows) - 1, room
    else:
      row = with_free[place].pop()
      if not with_free[place]:
        free.remove(place)
    rows[row].append(document)
    left = place - length
    if not with_free[left]:
      free.add(left)
    with_free[left].append(row)
  return [np.array(sorted(row)) for row in rows]


class _FreePlaces:
  """A set of numbers 0..room that finds its least member from a number on.

  The members are the bits of one integer: what is below is shifted away, and the lowest
  bit of the rest is a subtraction away.
  """

  def __init__(self) -> None:
    self._bits = 0

  def add(self, place: int) -> None:
    """Puts a number in."""
    self._bits |= 1 << place

  def remove(self, place: int) -> None:
    """Takes a number out that is in."""
    self._bits ^= 1 << place

  def least(self, place: int) -> int | None:
    """The least member that is at least `place`; None if there is none."""
    rest = self._bits >> place
    return (rest & -rest).bit_length() - 1 + place if rest else None


def padding(length_N: np.ndarray, rows: int, width: int) -> float:
  """Share of the places of `rows` rows of `width` that hold no token."""
  return 1 - float(length_N.sum()) / (rows * width) if rows else 0.0
