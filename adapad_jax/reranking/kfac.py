"""Kronecker factors of how a model's outputs depend on a layer's weight (K-FAC).

An error E in a layer's weight (I, O) changes the layer's output at a token by E^T x,
and the model's outputs f by J E^T x. With random signs eps, one for every output of
the model, the gradient g of eps^T f in the layer's output has E[g g^T] = J^T J, so that

    E ||df||^2 = E (g^T E^T x)^2 = vec(E)^T E[x x^T (x) g g^T] vec(E).

The expectation of the Kronecker product is replaced by the product of its two partial
traces (as K-FAC does with a further factor, arXiv:1503.05671):

    E ||df||^2 ~ tr(F E^T S E),  S = E[||g||^2 x x^T],  F = E[||x||^2 g g^T] / tr(S).

Tokens on which the model's outputs do not depend drop out of S, and directions of a
layer's output on which they do not depend drop out of F. Both are in units of the
model's outputs, which makes layers comparable.

The outputs of a language model are distributions over tokens, of which most hardly ever
count; there g is the gradient of the likelihood of tokens that it draws itself, and the
same form measures the Kullback-Leibler divergence, see `likelihood`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from adapad_jax.adapters import Attachment, split_model
from adapad_jax.models.head import open_places
from adapad_jax.regression.moments import einsum
from adapad_jax.reranking.activations import (
  batches_of,
  check_text,
  kernel_shapes,
  rows_of_batch,
)
from adapad_jax.reranking.likelihood import drawn_likelihood
from adapad_jax.sharding import DATA, WORKER, put

# Outputs beyond this are taken for masks, which a family of one's own may give.
_LARGEST = 1e6


@dataclasses.dataclass(frozen=True)
class KroneckerFactors:
  """What errors of a layer weigh: tr(F E^T S E) for an error E of its weight.

  Attributes:
    s_II: S, of the inputs.
    f_OO: F, of the outputs; its trace is one, or zero where no output depends on it.
  """

  s_II: np.ndarray
  f_OO: np.ndarray


@jax.custom_vjp
def _probed(
  x_BLI: jax.Array, y_BLO: jax.Array, s_II: jax.Array, f_OO: jax.Array
) -> jax.Array:
  """y itself; the cotangents of s and f are sums of ||g||^2 x x^T and ||x||^2 g g^T."""
  return y_BLO


def _forward(
  x_BLI: jax.Array, y_BLO: jax.Array, s_II: jax.Array, f_OO: jax.Array
) -> tuple[jax.Array, jax.Array]:
  return y_BLO, x_BLI


def _backward(x_BLI: jax.Array, g_BLO: jax.Array) -> tuple[jax.Array, ...]:
  x, g = x_BLI.astype(jnp.float32), g_BLO.astype(jnp.float32)
  norm = lambda z: jnp.sum(jnp.square(z), axis=-1, keepdims=True)
  # One axis of tokens: a product over two of them takes half as long again on a CPU.
  flat = lambda z: z.reshape(-1, z.shape[-1])
  s_II = einsum('ni,nj->ij', flat(norm(g) * x), flat(x))
  f_OO = einsum('no,np->op', flat(norm(x) * g), flat(g))
  return jnp.zeros_like(x_BLI), g_BLO, s_II, f_OO


_probed.defvjp(_forward, _backward)


class _Probe:
  """Stands where an update does, changes nothing, and sums products of its gradient."""

  def __init__(self, sums: tuple[jax.Array, jax.Array]) -> None:
    self.sums = sums

  def __call__(self, x: jax.Array) -> jax.Array:
    x_BLI = jax.lax.stop_gradient(x.reshape(len(x), -1, x.shape[-1]))
    y_BLO = jnp.zeros((*x_BLI.shape[:-1], len(self.sums[1])))
    return _probed(x_BLI, y_BLO, *self.sums).reshape(*x.shape[:-1], -1)

  def broadcast(self, table_RD: jax.Array) -> jax.Array:
    """The same for a table that all rows share."""
    return self(table_RD[None])


def kronecker_factors(
  model: nnx.Module,
  modules: Sequence[str],
  columns: Mapping[str, np.ndarray],
  mesh: jax.sharding.Mesh,
  *,
  kind: str,
  rows: int = 0,
  seed: int = 0,
) -> dict[str, KroneckerFactors]:
  """S and F of every module, means over tokens, on the host.

  Rows of a batch are spread over all devices of the mesh; the signs depend on that.

  Args:
    model: whose gradients are summed, not scanned.
    modules: names of linear layers.
    columns: of the text, see `activations.READ`; labels are not read.
    mesh: the devices.
    kind: of the model's head, see `models.Head`.
    rows: rows of a batch, rounded up to a multiple of the devices; 0 chooses.
    seed: of the random signs, and of the tokens that a language model draws.

  Raises:
    ValueError: if the model runs its layers as one scanned layer, or there is no text.
  """
  shapes, tokens = kernel_shapes(model, modules), check_text(columns)
  rows = rows_of_batch(model, columns, mesh, rows)
  with jax.set_mesh(mesh):
    attachment, params, _ = split_model(model)
    params, step = put(params), _program(attachment, kind, mesh)
    everywhere = jax.NamedSharding(mesh, jax.P())
    zeros = lambda side: jnp.zeros((side, side), device=everywhere)
    totals = {name: (zeros(i), zeros(o)) for name, (i, o) in shapes.items()}
    for number, batch in enumerate(batches_of(columns, rows)):
      key = jax.random.fold_in(jax.random.key(seed), number)
      key = put(np.asarray(jax.random.key_data(key)))
      totals = step(totals, params, put(batch, jax.P((WORKER, DATA))), key)
  # One module leaves the devices after another: all sums are never there twice.
  return {name: _means(*totals.pop(name), tokens) for name in shapes}


def _means(s_II: jax.Array, f_OO: jax.Array, tokens: int) -> KroneckerFactors:
  """The factors of a module from its sums, on the host."""
  s_II, f_OO = np.asarray(s_II), np.asarray(f_OO)
  return KroneckerFactors(s_II / tokens, f_OO / max(float(np.trace(s_II)), 1e-30))


def _program(attachment: Attachment, kind: str, mesh: jax.sharding.Mesh) -> Any:
  """The compiled (totals, params, batch, key) -> totals with a batch added."""

  def sums(totals: Any, params: Any, batch: Mapping[str, jax.Array], key: Any) -> Any:
    device = jax.lax.axis_index((WORKER, DATA))
    key = jax.random.fold_in(jax.random.wrap_key_data(key), device)

    def probed(sums: dict[str, Any]) -> jax.Array:
      probes = {name: _Probe(own) for name, own in sums.items()}
      model = attachment(params, probes, {})
      if kind == 'lm':
        return drawn_likelihood(model, batch, key)
      outputs = jax.tree.leaves(model(batch))
      is_read = _is_read(batch, kind)
      return sum(_signed_sum(key, i, x, is_read) for i, x in enumerate(outputs))

    own = jax.grad(probed)(jax.tree.map(jnp.zeros_like, totals))
    if jax.lax.axis_size((WORKER, DATA)) > 1:  # On one device it would be a copy.
      own = jax.lax.psum(own, (WORKER, DATA))
    return jax.tree.map(jnp.add, totals, own)

  whole = jax.P()
  return jax.jit(
    jax.shard_map(
      sums,
      mesh=mesh,
      in_specs=(whole, whole, jax.P((WORKER, DATA)), whole),
      out_specs=whole,
      check_vma=False,
    ),
    donate_argnums=0,
  )


def _is_read(batch: Mapping[str, jax.Array], kind: str) -> jax.Array:
  """Which outputs anything reads: those of rows with text, (B,); of a span, (B, L).

  A span starts and ends in the passage, or at the no-answer token; where the batch does
  not say where these are, at any token.
  """
  is_token_BL = batch['mask_BL'] > 0
  if kind != 'span':
    return jnp.any(is_token_BL, axis=1)
  if 'first_B' not in batch:
    return is_token_BL
  return is_token_BL & open_places(batch, is_token_BL.shape[1])


def _signed_sum(
  key: jax.Array, number: int, outputs: jax.Array, is_read: jax.Array
) -> jax.Array:
  """eps^T f of one output over all that is read of it."""
  outputs = outputs.astype(jnp.float32)
  # Drawn with the rows last, so that padding changes no sign of what stands before it.
  sign = jax.random.rademacher(
    jax.random.fold_in(key, number), outputs.shape[::-1], outputs.dtype
  ).T
  is_read = is_read.reshape(is_read.shape + (1,) * (outputs.ndim - is_read.ndim))
  counts = is_read & (jnp.abs(outputs) < _LARGEST)
  return jnp.sum(jnp.where(counts, sign * outputs, 0.0))
