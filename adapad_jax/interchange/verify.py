"""What was written against what should have been."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from adapad_jax.adapters import Attachment, split_model
from adapad_jax.lowrank import Adapter, LowRank
from adapad_jax.lowrank.update import padded
from adapad_jax.models import Pretrained
from adapad_jax.sharding import automatic
from adapad_jax.tasks.task import Batch


@dataclasses.dataclass(frozen=True)
class Report:
  """How an export compares with the state it came from.

  Attributes:
    folder: where it lies.
    delta_error: max |Delta W on disk - Delta W|, head included.
    logit_gap: max difference of the logits on the given inputs, relative to the
      largest logit where that is above one.
    parameters: of the adapter, the head not counted.
  """

  folder: pathlib.Path
  delta_error: float
  logit_gap: float
  parameters: int

  def check(self, delta: float, logits: float) -> None:
    """Compares both differences with what is tolerated.

    Raises:
      ValueError: if one is larger or not a number.
    """
    for what, value, limit in (
      ('weights', self.delta_error, delta),
      ('logits', self.logit_gap, logits),
    ):
      if not value <= limit:
        raise ValueError(
          f'{self.folder} was not written: read back from disk, the {what} differ by'
          f' {value:.3g}, more than {limit:.1g}'
        )


def delta_error(expected: Adapter, found: Adapter) -> float:
  """max |Delta W - Delta W'| over all modules and the head; inf if some lack."""
  names = {n for n, rank in expected.ranks.items() if rank} | set(found.modules)
  error = 0.0
  for name in names:
    if name not in expected.modules or name not in found.modules:
      return float('inf')
    pair = expected.modules[name].weight(), found.modules[name].weight()
    error = max(error, _largest_difference(*pair))
  flat = lambda head: {(n, k): v for n, p in head.items() for k, v in p.items()}
  ours, theirs = flat(expected.head), flat(found.head)
  if ours.keys() != theirs.keys():
    return float('inf')
  return max([error, *(_largest_difference(ours[k], theirs[k]) for k in ours)])


def _largest_difference(x: np.ndarray, y: np.ndarray) -> float:
  if x.shape != y.shape:
    return float('inf')
  gap = float(np.max(np.abs(x - y), initial=0.0))
  return gap if np.isfinite(gap) else float('inf')


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Term:
  """x -> (x a^T) b in the dtype of x, accumulated in float32."""

  a_RI: jax.Array
  b_RO: jax.Array

  def __call__(self, x: jax.Array) -> jax.Array:
    z = jnp.einsum('...i,ri->...r', x, self.a_RI, preferred_element_type=jnp.float32)
    return jnp.einsum('...r,ro->...o', z, self.b_RO).astype(x.dtype)

  def broadcast(self, table_RD: jax.Array) -> jax.Array:
    """The term of a table that all rows share: (1, R, O)."""
    return self(table_RD)[None]


def outputs(base: Pretrained, adapter: Adapter, batch: Batch) -> dict[str, np.ndarray]:
  """The model's outputs for a batch with the adapter on the fly, without dropout."""
  attachment, params, _ = split_model(base.model)
  largest = max(adapter.ranks.values(), default=0)
  same_rank = {name: padded(u, largest) for name, u in adapter.modules.items()}
  return _run(attachment, params, _terms(same_rank), adapter.head, batch)


def _terms(updates: dict[str, LowRank]) -> dict[str, _Term]:
  return {
    n: _Term(jnp.asarray(u.a_RI), jnp.asarray(u.b_RO)) for n, u in updates.items()
  }


def plain_outputs(model: nnx.Module, batch: Batch) -> dict[str, np.ndarray]:
  """The outputs of a model as it is."""
  attachment, params, _ = split_model(model)
  return _run(attachment, params, {}, {}, batch)


def _run(
  attachment: Attachment, params: Any, terms: Any, head: Any, batch: Batch
) -> dict[str, np.ndarray]:
  # A GPU would round float32 to fewer bits, by more than an export may be off.
  with jax.default_matmul_precision('highest'):
    found = _forward(attachment, automatic(params), terms, head, batch)
  return {name: np.asarray(x, np.float32) for name, x in found.items()}


@functools.partial(jax.jit, static_argnames='attachment')
def _forward(
  attachment: Attachment, params: Any, terms: Any, head: Any, batch: Batch
) -> dict[str, jax.Array]:
  result = attachment(params, terms, head)(batch)
  return result if isinstance(result, dict) else {'logits': result}


def largest_gap(
  ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], batch: Batch
) -> float:
  """The largest difference at real tokens, relative to the largest output above 1."""
  gap, scale = 0.0, 1.0
  mask_BL = np.asarray(batch['mask_BL']) > 0
  for name, x in ours.items():
    by_token = x.ndim == 3 or name in ('start_BL', 'end_BL')
    kept = mask_BL if by_token else slice(None)
    gap = max(gap, _largest_difference(x[kept], theirs[name][kept]))
    scale = max(scale, float(np.max(np.abs(x[kept]))))
  return gap / scale


def logit_gap(
  base: Pretrained, expected: Adapter, found: Adapter, batch: Batch
) -> float:
  """How far the logits under two adapters of one base are apart."""
  pair = (outputs(base, adapter, batch) for adapter in (expected, found))
  return largest_gap(*pair, batch)
