"""The device mesh: its axes, how it is made, and how arrays are put on it."""

from typing import Any

import jax
import numpy as np

WORKER = 'worker'
DATA = 'data'


def make_mesh(worker: int = 1, data: int = 1) -> jax.sharding.Mesh:
  """Makes the ('worker', 'data') mesh from the first worker * data devices.

  Args:
    worker: devices that share the components, the leading axis of every stack.
    data: devices that share the rows of a batch.

  Raises:
    ValueError: if a size is below one or the devices do not suffice.
  """
  have = jax.device_count()
  if worker < 1 or data < 1 or worker * data > have:
    fits = [(w, d) for w in range(1, have + 1) for d in range(1, have // w + 1)]
    raise ValueError(
      f'mesh worker={worker} x data={data} does not fit {have} device(s);'
      f' choose (worker, data) from {fits[:16]}'
    )
  devices = jax.devices()[: worker * data]
  return jax.make_mesh((worker, data), (WORKER, DATA), devices=devices)


def put(tree: Any, spec: jax.sharding.PartitionSpec | None = None) -> Any:
  """Copies a tree of host arrays onto the current mesh under one spec."""
  mesh = jax.sharding.get_mesh()
  sharding = jax.NamedSharding(mesh, jax.P() if spec is None else spec)
  return jax.tree.map(lambda x: jax.device_put(x, sharding), tree)


def fetch(tree: Any) -> Any:
  """Copies a tree of device arrays to host memory as numpy arrays."""
  return jax.tree.map(np.asarray, jax.device_get(tree))
