"""Second moments of the inputs of chosen layers, streamed over text."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from adapad_jax.adapters import Attachment, linear_shapes, split_model
from adapad_jax.adapters.locate import parent_of
from adapad_jax.regression.moments import einsum
from adapad_jax.sharding import DATA, WORKER, put
from adapad_jax.training.batches import lengths, padded, trimmed

# What a model, a draw of its next tokens, or a choice of a span reads of a text; no
# labels.
READ = 'ids_BL', 'mask_BL', 'types_BL', 'segments_BL', 'learned_BL'
READ += 'first_B', 'size_B', 'null_B', 'answer_BA', 'said_BA'
# The most tokens of a batch, and the most bytes of activations, 2 GiB: a backward pass
# through layers that are written out keeps those of all.
_TOKENS, _BYTES = 4096, 2**31


class _Recorder:
  """Stands where an update does, changes nothing, and sums x x^T of what passes.

  Padding does not count. A table that all rows share, as DeBERTa's distances, counts
  once for every row, as often as it is used.
  """

  def __init__(self, outputs: int, mask_BL: jax.Array) -> None:
    self.outputs = outputs
    self.mask_BL = mask_BL
    self.total: Any = 0.0

  def __call__(self, x_BLI: jax.Array) -> jax.Array:
    x_BLI = x_BLI.astype(jnp.float32)
    counted_BLI = x_BLI * self.mask_BL[..., None].astype(jnp.float32)
    flat = lambda z: z.reshape(-1, z.shape[-1])
    self.total += einsum('ni,nj->ij', flat(counted_BLI), flat(x_BLI))
    return jnp.zeros((*x_BLI.shape[:-1], self.outputs))

  def broadcast(self, table_RD: jax.Array) -> jax.Array:
    """The same for a shared table."""
    rows = jnp.sum(jnp.any(self.mask_BL > 0, axis=1)).astype(jnp.float32)
    table_RD = table_RD.astype(jnp.float32)
    self.total += rows * einsum('rd,re->de', table_RD, table_RD)
    return jnp.zeros((1, table_RD.shape[0], self.outputs))


def input_moments(
  model: nnx.Module,
  modules: Sequence[str],
  columns: Mapping[str, np.ndarray],
  mesh: jax.sharding.Mesh,
  rows: int = 0,
) -> dict[str, np.ndarray]:
  """S = 1/N sum_n x_n x_n^T of every module's inputs, (I, I), on the host.

  Rows of a batch are spread over all devices of the mesh.

  Args:
    model: whose activations are summed, not scanned.
    modules: names of linear layers.
    columns: of the text, see `READ`; labels are not read.
    mesh: the devices.
    rows: rows of a batch, rounded up to a multiple of the devices; 0 chooses.

  Raises:
    ValueError: if the model runs its layers as one scanned layer, or there is no text.
  """
  sizes = {name: shape[-1] for name, shape in kernel_shapes(model, modules).items()}
  tokens = check_text(columns)
  rows = rows_of_batch(model, columns, mesh, rows)
  with jax.set_mesh(mesh):
    attachment, params, _ = split_model(model)
    params, step = put(params), _program(attachment, tuple(sizes.items()), mesh)
    totals = None
    for batch in batches_of(columns, rows):
      found = step(params, put(batch, jax.P((WORKER, DATA))))
      totals = found if totals is None else _add(totals, found)
    return {name: np.asarray(s_II) / tokens for name, s_II in totals.items()}


def kernel_shapes(
  model: nnx.Module, modules: Sequence[str]
) -> dict[str, tuple[int, int]]:
  """(in, out) features of linear layers.

  Raises:
    ValueError: if the model runs its layers as one scanned layer.
  """
  shapes = {}
  for name in modules:
    parent, leaf, layer = parent_of(model, name)
    if layer is not None:
      raise ValueError('load the model with scan=False to look at its activations')
    shapes[name] = getattr(parent, leaf).kernel.shape
  return shapes


def check_text(columns: Mapping[str, np.ndarray]) -> int:
  """Tokens of the text.

  Raises:
    ValueError: if there are none, or none of answers where rows ask for some.
  """
  tokens = int(np.sum(columns['mask_BL'][:]))
  if tokens == 0:
    raise ValueError('re-ranking needs text, but there is not a single token')
  if 'said_BA' not in columns:
    return tokens
  said = int(np.sum(columns['said_BA'][:]))
  if said == 0:
    raise ValueError(
      're-ranking a model that writes answers needs questions with their answers, but'
      f' none of the {len(columns["said_BA"])} rows has one'
    )
  return tokens + said


def text_lengths(columns: Mapping[str, np.ndarray]) -> np.ndarray:
  """Tokens of every row, up to its last one, and of the answer that it asks for."""
  length_N = lengths(columns)
  if 'said_BA' not in columns:
    return length_N
  return length_N + np.sum(columns['said_BA'][:], axis=1)


def rows_of_batch(
  model: nnx.Module,
  columns: Mapping[str, np.ndarray],
  mesh: jax.sharding.Mesh,
  rows: int,
) -> int:
  """`rows`, or if 0 as many as fit into memory, rounded up to all devices' multiple."""
  tokens = min(_TOKENS, _BYTES // bytes_of_token(model))
  rows = rows or max(1, min(64, tokens // int(text_lengths(columns).max())))
  return -(-rows // mesh.size) * mesh.size


def bytes_of_token(model: nnx.Module) -> int:
  """About what a token leaves for the backward pass: float32, and as much beside.

  Every linear layer has an input and an output; norms and activations between them are
  about as many again (SmolLM2-135M, 256 tokens a row: 2.8 MB as compiled, 2.4 by this).
  """
  return max(8 * sum(map(sum, linear_shapes(model).values())), 1)


def batches_of(columns: Mapping[str, np.ndarray], rows: int) -> Iterator[dict]:
  """What a model reads of the text, so many rows at a time, the last ones padded."""
  read = trimmed({k: v for k, v in columns.items() if k in READ})
  for start in range(0, len(read['ids_BL']), rows):
    yield _with_answers(padded(read, start, rows))


def _with_answers(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Rows whose answers, where they have some, stand behind the prompt, and count."""
  if 'answer_BA' not in batch:
    return batch
  answer_BA, said_BA = batch.pop('answer_BA'), batch.pop('said_BA')
  behind = {'ids_BL': answer_BA, 'mask_BL': said_BA, 'learned_BL': said_BA}
  batch['learned_BL'] = np.zeros_like(batch['mask_BL'])
  is_token_BL = np.concatenate([batch['mask_BL'], said_BA], axis=1) > 0
  # Padding of the prompt would stand between its last token and the first to predict.
  order_BL = np.argsort(~is_token_BL, axis=1, kind='stable')
  for name in [name for name in batch if name.endswith('_BL')]:
    more_BA = behind.get(name, np.zeros_like(said_BA))
    whole_BL = np.concatenate([batch[name], more_BA], axis=1)
    batch[name] = np.take_along_axis(whole_BL, order_BL, axis=1)
  return batch


@functools.partial(jax.jit, donate_argnums=0)
def _add(total: Any, more: Any) -> Any:
  return jax.tree.map(jnp.add, total, more)


def _program(
  attachment: Attachment, sizes: tuple[tuple[str, int], ...], mesh: jax.sharding.Mesh
) -> Any:
  """The compiled (params, batch) -> sums of one batch over all devices."""

  def sums(params: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    recorders = {name: _Recorder(size, batch['mask_BL']) for name, size in sizes}
    attachment(params, recorders, {})(batch)
    own = {name: recorder.total for name, recorder in recorders.items()}
    return jax.lax.psum(own, (WORKER, DATA))

  spread = jax.P((WORKER, DATA))
  return jax.jit(
    jax.shard_map(
      sums,
      mesh=mesh,
      in_specs=(jax.P(), spread),
      out_specs=jax.P(),
      check_vma=False,
    )
  )
