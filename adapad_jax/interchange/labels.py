"""Whether a trained head means the same classes as a task."""

from collections.abc import Mapping, Sequence
from typing import Any


def require_same_labels(
  theirs: Sequence[str] | None, ours: Sequence[str] | None, source: str
) -> None:
  """Refuses a head whose outputs have other names, or the same in another order.

  Upper and lower case are the same; where one side has no names, nothing is known.

  Raises:
    ValueError: with both lists.
  """
  if not theirs or not ours:
    return
  fold = lambda names: [name.casefold() for name in names]
  if fold(theirs) == fold(ours):
    return
  order = ' in another order' * (sorted(fold(theirs)) == sorted(fold(ours)))
  raise ValueError(
    f'{source} was trained for the labels {list(theirs)}, the task has'
    f' {list(ours)}{order}: its head would answer with the wrong names; for files of'
    ' your own, data.labels sets the names and their order'
  )


def names_of_config(hf_config: Mapping[str, Any]) -> tuple[str, ...] | None:
  """Class names in a model's config.json; None for none, or LABEL_0, LABEL_1, ..."""
  names = hf_config.get('id2label') or {}
  ordered = tuple(str(names[key]) for key in sorted(names, key=int))
  unnamed = tuple(f'LABEL_{i}' for i in range(len(ordered)))
  return None if ordered in ((), unnamed) else ordered
