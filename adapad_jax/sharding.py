"""The device mesh: its axes, how it is made, and how rows and arrays lie on it."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

WORKER = 'worker'
DATA = 'data'
MODEL = 'model'


def make_mesh(worker: int = 1, data: int = 1, model: int = 1) -> jax.sharding.Mesh:
  """Makes the ('worker', 'data', 'model') mesh from the first devices.

  Args:
    worker: devices that share the components, the leading axis of every stack.
    data: groups of devices that share the rows of a batch.
    model: devices of a group, which share the backbone's weights and the group's rows;
      next to each other, since they talk in every layer.

  Raises:
    ValueError: if a size is below one, the devices do not suffice, or a process would
      have none of them.
  """
  have, size = jax.device_count(), worker * data * model
  if min(worker, data, model) < 1 or size > have:
    fits = [
      (w, d) for w in range(1, have + 1) for d in range(1, have // (w * model) + 1)
    ]
    of_model = f' x model={model}' if model != 1 else ''
    choice = f'choose (worker, data) from {fits[:16]}'
    raise ValueError(
      f'mesh worker={worker} x data={data}{of_model} does not fit {have} device(s);'
      f' {choice if fits else f"choose model from {[*range(1, have + 1)][:16]}"}'
    )
  devices = jax.devices()[:size]
  if len({device.process_index for device in devices}) < jax.process_count():
    raise ValueError(
      f'mesh worker={worker} x data={data} x model={model} takes {size} of {have}'
      f' devices and leaves a process without any; every one of the'
      f' {jax.process_count()} processes needs one'
    )
  return jax.make_mesh((worker, data, model), (WORKER, DATA, MODEL), devices=devices)


# Share of a device's memory that the weights may take: the rest is for activations.
_ROOM = 0.8


def devices_for(weights: int, free: int, rows: int = 0) -> int:
  """The fewest of `free` devices, a divisor, that hold so many bytes of weights.

  One, where jax reports no memory, as on the CPU.

  Args:
    weights: bytes.
    free: devices that there are.
    rows: what the devices share too, and have to divide; 0: any number does.

  Raises:
    ValueError: if no such number of devices can hold the weights.
  """
  limit = (jax.local_devices()[0].memory_stats() or {}).get('bytes_limit')
  if not limit:
    return 1
  choices = [n for n in range(1, free + 1) if free % n == 0 and rows % n == 0]
  found = next((n for n in choices if weights <= n * _ROOM * limit), None)
  if found is None:
    most = choices[-1]
    sharing = f', the most that divide {rows} rows' if most < free else ''
    raise ValueError(
      f'weights of {weights / 2**30:.1f} GiB do not fit {most} device(s) of'
      f' {limit / 2**30:.1f} GiB with room for activations{sharing}; use more devices,'
      ' model.dtype=bfloat16 or model.weights=nf4, or set mesh.model to try it all the'
      ' same'
    )
  return found


def row_axes(mesh: jax.sharding.Mesh) -> tuple[str, ...]:
  """The axes over which the rows of a batch are spread.

  Devices of `model` share weights and not rows: each puts a layer together when it
  needs it and computes rows of its own.
  """
  return (DATA, MODEL) if mesh.shape.get(MODEL, 1) > 1 else (DATA,)


def row_shards(mesh: jax.sharding.Mesh) -> int:
  """Into how many parts the rows of a batch are divided."""
  return math.prod(mesh.shape[name] for name in row_axes(mesh))


@dataclasses.dataclass(frozen=True)
class Rows:
  """How the rows of a batch lie on a mesh.

  Attributes:
    order_B: the row of the batch at each place.
    axes: mesh axes that divide the places, contiguous ones for a device.
  """

  order_B: np.ndarray
  axes: tuple[str, ...]

  @property
  def spec(self) -> jax.sharding.PartitionSpec:
    """Of arrays (steps, batch, ...)."""
    return jax.P(None, self.axes)


def rows_on(mesh: jax.sharding.Mesh, batch: int) -> Rows:
  """Rows dealt out to all devices of one place on the worker axis."""
  return Rows(shard_order(batch, row_shards(mesh)), row_axes(mesh))


def shard_order(batch: int, shards: int) -> np.ndarray:
  """Order in which rows are laid out so that contiguous shard d holds g = d mod shards.

  Raises:
    ValueError: if the shards do not divide the batch.
  """
  if batch % shards:
    fits = [n for n in range(1, batch + 1) if batch % n == 0]
    raise ValueError(
      f'the data axis of {shards} device(s) does not divide the batch of {batch}'
      f' rows; choose a data axis from {fits}, or another batch'
    )
  return np.arange(batch).reshape(batch // shards, shards).T.ravel()


def whole_specs(tree: Any) -> Any:
  """Partition specs of arrays that every device has in full."""
  # Of full rank, as jax writes specs on outputs: an equal but shorter one is another
  # entry of the compilation cache.
  return jax.tree.map(lambda x: jax.P(*[None] * x.ndim), tree)


def specs_of(tree: Any) -> Any:
  """How the arrays of a tree lie on the mesh, inside a traced function."""
  return jax.tree.map(lambda x: jax.typeof(x).sharding.spec, tree)


def laid(tree: Any, specs: Any, mesh: jax.sharding.Mesh) -> Any:
  """Outlines of a tree's arrays as they lie on a mesh: shape, dtype, sharding."""
  one = lambda x, spec: jax.ShapeDtypeStruct(
    x.shape, x.dtype, sharding=jax.NamedSharding(mesh, spec)
  )
  return jax.tree.map(one, tree, specs)


def put(tree: Any, spec: jax.sharding.PartitionSpec | None = None) -> Any:
  """Copies a tree of host arrays onto the current mesh under one spec.

  With several processes every one of them holds the same tree, and copies what its
  own devices need.
  """
  sharding = jax.NamedSharding(
    jax.sharding.get_mesh(), jax.P() if spec is None else spec
  )
  return jax.tree.map(lambda x: put_one(x, sharding), tree)


def put_one(x: Any, sharding: jax.NamedSharding) -> jax.Array:
  """Copies one host array, or the parts that this process needs, to its devices."""
  if sharding.is_fully_addressable:
    return jax.device_put(x, sharding)
  # `device_put` would compare the array between processes each time. This way is meant
  # too, though jax's guard takes it for an oversight.
  host = np.asarray(x)
  with jax.transfer_guard_host_to_device('allow'):
    return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)


def automatic(tree: Any) -> Any:
  """The same arrays where they lie, their layout the compiler's affair.

  A program for one device then takes weights that are divided over `model` as well.
  """

  def one(x: Any) -> Any:
    lies = getattr(x, 'sharding', None)
    if not isinstance(lies, jax.NamedSharding):
      return x
    types = (jax.sharding.AxisType.Auto,) * len(lies.mesh.axis_names)
    mesh = jax.sharding.Mesh(lies.mesh.devices, lies.mesh.axis_names, axis_types=types)
    return jax.device_put(x, jax.NamedSharding(mesh, lies.spec))

  return jax.tree.map(one, tree)


def fetch(tree: Any) -> Any:
  """Copies a tree of device arrays to host memory as numpy arrays."""
  return jax.tree.map(np.asarray, jax.device_get(tree))
