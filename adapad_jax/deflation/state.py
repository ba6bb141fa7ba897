"""The state of a run: components, optimisers, ranks, and how it lies on a mesh."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.deflation.discovery import Ranks
from adapad_jax.sharding import WORKER, whole_specs
from adapad_jax.train_step import TrainState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State(TrainState):
  """Everything a run needs to continue, in arrays whose shapes never change.

  Attributes:
    stack_RMP: all components in the order of a `Packing`, sharded over the worker axis.
    moments: optimiser state of each component, leaves (R, M, ...), sharded likewise.
    age_RM: optimiser steps each component has taken, sharded likewise.
    ranks: the rank distribution, its statistics and the ledger of grants.
  """

  stack_RMP: jax.Array
  moments: Any
  age_RM: jax.Array
  ranks: Ranks


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Placed(State):
  """A state that lies on a mesh; a round takes others too, and compiles longer.

  Attributes:
    numbers: of modules, see `Packing.numbers`. They are arguments of a round so that
      its compiler cannot know them, and are not saved.
  """

  numbers: Mapping[str, Any]


def placed(state: State, numbers: Mapping[str, Any]) -> Placed:
  """The state with the numbers of its modules."""
  return Placed(**_fields(state), numbers=numbers)


def saved(state: State) -> State:
  """The state without them."""
  return State(**_fields(state))


def _fields(state: State) -> dict[str, Any]:
  return {field.name: getattr(state, field.name) for field in dataclasses.fields(State)}


def state_specs(state: State) -> State:
  """Partition specs of a State: stacks over the worker axis, the rest whole."""
  stacked = lambda tree: jax.tree.map(
    lambda x: jax.P(WORKER, *[None] * (x.ndim - 1)), tree
  )
  return dataclasses.replace(
    whole_specs(state),
    stack_RMP=stacked(state.stack_RMP),
    moments=stacked(state.moments),
    age_RM=stacked(state.age_RM),
  )


def resize(state: State, width: int) -> State:
  """The state with stacks of `width` workers: cut, or padded with idle zeros.

  A mesh axis has to divide the stacks; a saved state has none of that padding.
  """

  def fit(tree: Any) -> Any:
    return jax.tree.map(functools.partial(_of_length, width), tree)

  return dataclasses.replace(
    state,
    stack_RMP=fit(state.stack_RMP),
    moments=fit(state.moments),
    age_RM=fit(state.age_RM),
  )


def _of_length(width: int, x: jax.Array) -> jax.Array:
  """The array with its first axis cut or padded; as it is if that fits."""
  if len(x) >= width:  # Not a program to be compiled for nothing.
    return x[:width]
  return jnp.pad(x, [(0, width - len(x))] + [(0, 0)] * (x.ndim - 1))
