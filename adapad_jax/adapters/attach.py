"""Puts low-rank terms and a trained head into a model, inside a traced function.

A delta is any callable x -> update of the layer's output; it may have a method
`broadcast(table)` for inputs that all rows of a batch share.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from adapad_jax.adapters.locate import linears, parent_of
from adapad_jax.adapters.trained_head import HeadParams, TrainedLinear
from adapad_jax.adapters.unadaptable import places, refuse
from adapad_jax.models.quantised import kernel_shape
from adapad_jax.models.split import Division, gather_on_use
from adapad_jax.sharding import MODEL


class Adapted(nnx.Module):
  """A frozen linear layer plus its update."""

  def __init__(self, linear: nnx.Module, delta: Any) -> None:
    self.linear = linear
    self.delta = nnx.data(delta)

  def __call__(self, x: jax.Array) -> jax.Array:
    """linear(x) + delta(x)."""
    y = self.linear(x)
    return y + self.delta(x).astype(y.dtype)

  def broadcast(self, table_RD: jax.Array) -> jax.Array:
    """The same for a table that all rows share; rows may differ in their update."""
    y_RO = self.linear(table_RD)
    return y_RO[None] + self.delta.broadcast(table_RD).astype(y_RO.dtype)


def attach(
  model: nnx.Module,
  deltas: Mapping[str, Any],
  head: HeadParams,
  head_weight_B: jax.Array | None = None,
) -> nnx.Module:
  """Replaces layers of `model`, in place, by adapted and trained ones.

  Args:
    model: made inside the traced function that calls this.
    deltas: update by module name.
    head: parameters of the head's linear layers by module name.
    head_weight_B: weight of each row in the head's own gradient; None: all count.
  """
  stacked: dict[tuple[int, str], dict[int, Any]] = {}
  parents: dict[int, Any] = {}
  for name, delta in deltas.items():
    parent, leaf, layer = parent_of(model, name)
    if layer is None:
      setattr(parent, leaf, Adapted(getattr(parent, leaf), delta))
    else:
      parents[id(parent)] = parent
      stacked.setdefault((id(parent), leaf), {})[layer] = delta
  for (key, leaf), by_layer in stacked.items():
    linear = getattr(parents[key], leaf)
    delta = _stack(by_layer, kernel_shape(linear)[0])
    setattr(parents[key], leaf, Adapted(linear, delta))
  for name, params in head.items():
    parent, leaf, _ = parent_of(model, name)
    setattr(parent, leaf, TrainedLinear(params, head_weight_B))
  return model


def _stack(by_layer: Mapping[int, Any], size: int) -> Any:
  """One delta with a leading layer axis; layers without an update get zeros."""
  nothing = jax.tree.map(jnp.zeros_like, next(iter(by_layer.values())))
  parts = [by_layer.get(layer, nothing) for layer in range(size)]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


@dataclasses.dataclass(frozen=True)
class Attachment:
  """A model taken apart: how to put it together again with deltas and a head.

  Attributes:
    graph: the model without its arrays; hashable, so compiled functions may close
      over it.
    divided: parameters of which a device has a part along the mesh's `model` axis.
  """

  graph: nnx.GraphDef
  divided: Division = ()

  @classmethod
  def of(cls, model: nnx.Module, divided: Division = ()) -> 'Attachment':
    """For models of the same structure as this one, which may be abstract."""
    return cls(nnx.split(model)[0], divided)

  def __call__(
    self,
    params: Any,
    deltas: Mapping[str, Any],
    head: HeadParams,
    head_weight_B: jax.Array | None = None,
  ) -> nnx.Module:
    """The model with these parameters, updates and head."""
    if self.divided:
      params = gather_on_use(params, self.divided, MODEL)
    # With variables of this trace, which the forward pass may write: those of `params`
    # belong to the caller. The compiled program is the same.
    model = nnx.merge(self.graph, params, copy=True)
    return attach(model, deltas, head, head_weight_B)


def split_model(
  model: nnx.Module, head_modules: tuple[str, ...] = ()
) -> tuple[Attachment, Any, HeadParams]:
  """Takes a model apart into (attachment, frozen parameters, head parameters).

  Raises:
    ValueError: if a head module has no linear layer or one that cannot be trained
      whole, or a path does not exist.
  """
  params = nnx.state(model)
  found = linears(model)
  shared = places(model, whole=True) if head_modules else {}
  head: HeadParams = {}
  for module in head_modules:
    inside = lambda name, part=module: name == part or name.startswith(f'{part}.')
    names = [n for n in found if any(map(inside, (n, *shared.get(n, ()))))]
    if not names:
      raise ValueError(f'head module {module!r} has no linear layer in the model')
    refuse(model, names, whole=True)
    head |= {name: _params(found[name]) for name in names}
  return Attachment.of(model), params, head


def _params(linear: nnx.Linear) -> dict[str, jax.Array]:
  # Copies, because the trained head is donated to every step and the model is not.
  copy = lambda param: jnp.array(param[...], jnp.float32)
  params = {'kernel': copy(linear.kernel)}
  if linear.bias is not None:
    params['bias'] = copy(linear.bias)
  return params
