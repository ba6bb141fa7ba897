"""Tensors in a folder of Hugging Face layout, read one at a time."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from safetensors import safe_open

from adapad_jax.models import torch_bin


@dataclasses.dataclass(frozen=True)
class StoredTensor:
  """One tensor of a file: its shape, and `read` to copy it into memory."""

  shape: tuple[int, ...]
  read: Callable[[], np.ndarray]


_SINGLE = ('model.safetensors', 'pytorch_model.bin')


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
    for path in _weight_files(folder):
      opener = _open_bin if path.suffix == '.bin' else _open_safetensors
      tensors |= stack.enter_context(opener(path))
    yield tensors


def _weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
  for name in _SINGLE:
    if (folder / name).is_file():
      return [folder / name]
    index = folder / f'{name}.index.json'
    if index.is_file():
      shards = sorted(set(json.loads(index.read_text())['weight_map'].values()))
      missing = [shard for shard in shards if not (folder / shard).is_file()]
      if missing:
        raise ValueError(f'{index} names shards that are not in its folder: {missing}')
      return [folder / shard for shard in shards]
  raise ValueError(
    f'{folder} holds no weights; expected one of'
    f' {[*_SINGLE, *(f"{name}.index.json" for name in _SINGLE)]}'
  )


@contextlib.contextmanager
def _open_safetensors(path: pathlib.Path) -> Iterator[dict[str, StoredTensor]]:
  try:
    file = safe_open(path, 'np')
  except Exception as error:  # the library's own exception type is not public
    raise ValueError(f'{path} is not a readable safetensors file: {error}') from error
  with file:
    yield {name: _from_safetensors(file, name) for name in file.keys()}


def _from_safetensors(file: safe_open, name: str) -> StoredTensor:
  shape = tuple(file.get_slice(name).get_shape())
  return StoredTensor(shape, lambda: file.get_tensor(name))


@contextlib.contextmanager
def _open_bin(path: pathlib.Path) -> Iterator[dict[str, StoredTensor]]:
  with torch_bin.open_bin(path) as views:
    yield {
      name: StoredTensor(view.shape, lambda view=view: np.array(view))
      for name, view in views.items()
    }
