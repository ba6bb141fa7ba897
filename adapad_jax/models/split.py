"""Weights divided among devices, put together where they are used.

A device keeps one part of every large array. Reading the parameter gathers the others,
layer by layer, and `forgetful` makes the backward pass gather again instead of keeping
what was gathered: fully sharded data parallelism (arXiv:1910.02054, stage 3), of which
frozen weights need only this half, since they have no gradients to scatter.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
from flax import nnx

from adapad_jax.models.family import Family

# Path of a parameter -> the axis that is divided, counted from the end since a scanned
# layer has one axis more in front.
Division = tuple[tuple[str, int], ...]


def division(family: Family, params: Any, parts: int) -> Division:
  """What `parts` devices divide: by the family's table, where the axis allows.

  Args:
    family: has the table, see `Family.splits`.
    params: state of the model, which may be abstract.
    parts: number of devices.
  """
  if parts == 1:
    return ()
  found = []
  for keys, param in nnx.to_flat_state(params):
    path = dotted(keys)
    # What is packed has the axes of its kernel the other way round.
    kernel = re.sub(r'\.(codes|scales)$', '.kernel', path)
    turn = (lambda axis: axis) if kernel == path else (lambda axis: -3 - axis)
    rules = family.splits
    wanted = [turn(axis) for rule, axis in rules if re.fullmatch(rule, kernel)]
    # The other axis of a matrix, if the wanted one cannot be divided.
    fits = [a for w in wanted for a in (w, -3 - w) if param.shape[a] % parts == 0]
    found += [(path, fits[0])] if fits else []
  return tuple(found)


def dotted(keys: Iterable[Any]) -> str:
  """'encoder.layer.0.kernel' for a path in a state."""
  return '.'.join(str(key) for key in keys)


@dataclasses.dataclass(frozen=True)
class Gather:
  """What reading a divided parameter does inside `shard_map`.

  Attributes:
    axis_name: of the mesh, over which the parts lie.
    axis: of the parameter, counted from the end.
  """

  axis_name: str
  axis: int

  def __call__(self, variable: nnx.Variable, part: jax.Array) -> jax.Array:
    """The whole parameter."""
    axis = part.ndim + self.axis
    return jax.lax.all_gather(part, self.axis_name, axis=axis, tiled=True)


def gather_on_use(params: Any, divided: Division, axis_name: str) -> Any:
  """The same state, whose divided parameters gather themselves when they are read."""
  axes = dict(divided)

  def hooked(keys: tuple, param: nnx.Variable) -> nnx.Variable:
    if (path := dotted(keys)) not in axes:
      return param
    param = param.copy()
    param.set_metadata(on_get_value=Gather(axis_name, axes[path]))
    return param

  flat = nnx.to_flat_state(params)
  return nnx.from_flat_state([(keys, hooked(keys, param)) for keys, param in flat])


def forgetful(function: Callable[..., Any]) -> Callable[..., Any]:
  """The same function, whose gradient gathers again what the forward pass gathered."""
  return jax.checkpoint(function, policy=_saved)


def _saved(primitive: Any, *_: Any, **__: Any) -> bool:
  """What the backward pass finds in memory: everything but what was gathered."""
  return not primitive.name.startswith('all_gather')


def agreed(model: nnx.Module, done: jax.Array) -> jax.Array:
  """Whether all devices that share the model's weights are done.

  They gather weights together, so none may leave a loop before the others.
  """
  params = nnx.to_flat_state(nnx.state(model, nnx.Param))
  hooks = [param.get_metadata().get('on_get_value') for _, param in params]
  names = {hook.axis_name for hook in hooks if isinstance(hook, Gather)}
  return jax.lax.pmin(done.astype('int32'), tuple(names)) > 0 if names else done
