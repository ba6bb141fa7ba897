"""What a model computes on top of its backbone."""

import dataclasses
import difflib
from collections.abc import Mapping

import jax
import jax.numpy as jnp

KINDS = ('classification', 'regression', 'span', 'lm')


@dataclasses.dataclass(frozen=True)
class Head:
  """The output of a model, by task.

  Attributes:
    kind: 'classification' gives logits (B, num_labels), 'regression' (B, 1),
      'span' a dict of 'start_BL' and 'end_BL', 'lm' next-token logits (B, L, V).
    num_labels: number of classes; read for 'classification' alone.
    dropout: rate in front of the head; None takes the model's own.

  Raises:
    ValueError: for an unknown kind, fewer than two classes or a rate that is
      not in [0, 1).
  """

  kind: str
  num_labels: int = 2
  dropout: float | None = None

  def __post_init__(self) -> None:
    if self.kind not in KINDS:
      near = difflib.get_close_matches(str(self.kind), KINDS, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      raise ValueError(f'unknown head kind {self.kind!r}; choose from {KINDS}{hint}')
    if self.kind == 'classification' and self.num_labels < 2:
      raise ValueError(f'classification needs num_labels >= 2, got {self.num_labels}')
    if self.dropout is not None and not 0 <= self.dropout < 1:
      raise ValueError(f'head dropout must be in [0, 1), got {self.dropout}')

  @property
  def outputs(self) -> int:
    """Width of the output layer of a head that has one."""
    return {'classification': self.num_labels, 'regression': 1, 'span': 2}[self.kind]


def open_places(batch: Mapping[str, jax.Array], length: int) -> jax.Array:
  """Where a span may start or end, (B, L): in the passage and at the no-answer token.

  Args:
    batch: with the columns 'first_B', 'size_B' and 'null_B'.
    length: L, places of a row.
  """
  place_1L = jnp.arange(length)[None]
  column = lambda name: batch[name][:, None]
  within_BL = place_1L - column('first_B')
  open_BL = (within_BL >= 0) & (within_BL < column('size_B'))
  return open_BL | (place_1L == column('null_B'))
