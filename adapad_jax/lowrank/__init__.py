"""Low-rank updates as arrays: terms a_k^T b_k, whoever trains them.

Axis letters, declared here for all packages that use them: R components of a module,
in training one a worker; S components as others see them (all of them); r those of one
device; M modules; I and O a module's input and output features; B rows of a batch; L
positions; P entries of one component.

Imports jax and numpy alone.
"""

from adapad_jax.lowrank.adapter import Adapter
from adapad_jax.lowrank.deployed import Deployed, host_adapter
from adapad_jax.lowrank.initialize import (
  INITIALIZERS,
  along_gradient,
  init_packed,
  init_updates,
)
from adapad_jax.lowrank.masked import Delta
from adapad_jax.lowrank.packing import Packing
from adapad_jax.lowrank.update import LowRank

__all__ = [
  'INITIALIZERS',
  'Adapter',
  'Delta',
  'Deployed',
  'LowRank',
  'Packing',
  'along_gradient',
  'host_adapter',
  'init_packed',
  'init_updates',
]
