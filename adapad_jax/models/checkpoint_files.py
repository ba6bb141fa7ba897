"""Tensors in a folder of Hugging Face layout, read one at a time."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import safe_open

from adapad_jax.files import read_json
from adapad_jax.models import torch_bin


@dataclasses.dataclass(frozen=True)
class StoredTensor:
  """One tensor of a file, read in pieces so that memory holds it once.

  Attributes:
    shape: of the whole.
    dtype: as stored.
    rows: (start, stop) -> those indices of the first axis, in memory; of a scalar,
      the whole.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  rows: Callable[[int, int], np.ndarray]

  def read(self) -> np.ndarray:
    """The whole tensor."""
    whole = np.empty(self.shape, self.dtype)
    self.read_into(whole)
    return whole

  def read_into(self, out: np.ndarray) -> None:
    """Fills `out`, of the tensor's shape and any dtype and strides."""
    if not self.shape:
      out[...] = self.rows(0, 1)
      return
    for rows, piece in self.pieces():
      out[rows] = piece

  def pieces(self) -> Iterator[tuple[slice, np.ndarray]]:
    """All rows, some at a time; the tensor has at least one axis."""
    row_bytes = max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)
    step = max(1, _PIECE_BYTES // row_bytes)
    for start in range(0, self.shape[0], step):
      stop = min(start + step, self.shape[0])
      yield slice(start, stop), self.rows(start, stop)


_PIECE_BYTES = 2**23
_SAFETENSORS_DTYPES = {
  'F64': np.float64,
  'F32': np.float32,
  'F16': np.float16,
  'BF16': ml_dtypes.bfloat16,
  'I64': np.int64,
  'I32': np.int32,
  'I16': np.int16,
  'I8': np.int8,
  'U8': np.uint8,
  'BOOL': np.bool_,
}
INDEX = '.index.json'
# Files that hold weights or list the shards that do, in the order of preference. By
# name: adapters, other formats and other models lie beside them in public checkpoints.
NAMES = tuple(
  f'{name}{end}'
  for name in ('model.safetensors', 'pytorch_model.bin')
  for end in ('', INDEX)
)


@contextlib.contextmanager
def open_tensors(folder: pathlib.Path) -> Iterator[dict[str, StoredTensor]]:
  """Opens all weight files of a folder, safetensors before torch's `.bin`.

  Yields:
    name -> tensor; reading is possible inside the context only.

  Raises:
    ValueError: if there is no weight file, a shard is missing, or one is damaged.
  """
  with contextlib.ExitStack() as stack:
    tensors: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
      opener = _open_bin if path.suffix == '.bin' else open_safetensors
      tensors |= stack.enter_context(opener(path))
    yield tensors


def first_of(names: Collection[str]) -> str | None:
  """The weight file among the names of a folder's files, or the index of several."""
  return next((name for name in NAMES if name in names), None)


def choose(
  names: Collection[str], read_index: Callable[[str], Any], where: str
) -> tuple[str, ...]:
  """Names of the files that hold the weights, among those of a folder; () without any.

  Args:
    names: of the files that are there.
    read_index: name of an index -> its content as read.
    where: which folder that is, for messages.

  Raises:
    ValueError: if an index is malformed, or names shards that are not there.
  """
  first = first_of(names)
  if first is None or not first.endswith(INDEX):
    return () if first is None else (first,)
  index = read_index(first)
  shards = index.get('weight_map') if isinstance(index, dict) else None
  if not isinstance(shards, dict) or not all(
    isinstance(shard, str) for shard in shards.values()
  ):
    raise ValueError(f"{first} of {where} has no 'weight_map' of tensors to files")
  wanted = sorted(set(shards.values()))
  missing = [shard for shard in wanted if shard not in names]
  if missing:
    raise ValueError(
      f'{first} of {where} names shards that are not in its folder: {missing}'
    )
  return tuple(wanted)


def weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """The weight files of a folder.

  Raises:
    ValueError: if there is none, or as `choose`.
  """
  names = [path.name for path in folder.iterdir() if path.is_file()]
  chosen = choose(names, lambda name: read_json(folder / name), str(folder))
  if not chosen:
    raise ValueError(f'{folder} holds no weights; expected one of {list(NAMES)}')
  return [folder / name for name in chosen]


@contextlib.contextmanager
def open_safetensors(path: pathlib.Path) -> Iterator[dict[str, StoredTensor]]:
  """The tensors of a file, by name; reading is possible inside the context only."""
  try:
    file = safe_open(path, 'np')
  except Exception as error:  # the library's own exception type is not public
    raise ValueError(f'{path} is not a readable safetensors file: {error}') from error
  with file:
    slices = {name: file.get_slice(name) for name in file.keys()}
    yield {name: _from_safetensors(path, name, s) for name, s in slices.items()}


def _from_safetensors(path: pathlib.Path, name: str, stored: Any) -> StoredTensor:
  shape = tuple(stored.get_shape())
  kind = stored.get_dtype()
  if kind not in _SAFETENSORS_DTYPES:
    raise ValueError(
      f'{name} in {path} has dtype {kind}; choose from {sorted(_SAFETENSORS_DTYPES)}'
    )

  def rows(start: int, stop: int) -> np.ndarray:
    # Opened anew: the library maps the file, and what was read stays in this
    # process's memory until the map is closed.
    with safe_open(path, 'np') as file:
      return file.get_slice(name)[start:stop] if shape else file.get_tensor(name)

  return StoredTensor(shape, np.dtype(_SAFETENSORS_DTYPES[kind]), rows)


@contextlib.contextmanager
def _open_bin(path: pathlib.Path) -> Iterator[dict[str, StoredTensor]]:
  with torch_bin.open_bin(path) as (views, forget):
    yield {name: _from_bin(view, forget) for name, view in views.items()}


def _from_bin(view: np.ndarray, forget: Callable[[], None]) -> StoredTensor:
  def rows(start: int, stop: int) -> np.ndarray:
    piece = np.array(view[start:stop] if view.ndim else view)
    forget()
    return piece

  return StoredTensor(view.shape, view.dtype, rows)
