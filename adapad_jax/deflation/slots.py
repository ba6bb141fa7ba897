"""The rows of a batch that a device computes."""

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
  """The rows that one device computes.

  Attributes:
    row_C: index into the device's batch.
    number_C: place in what the owner sees of a batch, the same on every mesh.
    owner_C: the worker that trains on it; of a joint row the last that does.
    valid_C: whether the slot is used.
    joint_C: whether the row trains the active components of workers before too.
  """

  row_C: jax.Array
  number_C: jax.Array
  owner_C: jax.Array
  valid_C: jax.Array
  joint_C: jax.Array
