"""Reads torch's zip-format `.bin` files without torch and without running code.

The file is a zip archive: `<root>/data.pkl` is a pickle of the state dict in which
each storage is a persistent id, `<root>/data/<key>` are the raw little-endian bytes
of the storages. Unpickling admits the kinds of object that a state dict needs, which
are a handful, and refuses everything else, so that a hostile file cannot name a
callable.
"""

import collections
import contextlib
import dataclasses
import math
import mmap
import pathlib
import pickle
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np

_DTYPES = {
  'DoubleStorage': np.dtype(np.float64),
  'FloatStorage': np.dtype(np.float32),
  'HalfStorage': np.dtype(np.float16),
  'BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'LongStorage': np.dtype(np.int64),
  'IntStorage': np.dtype(np.int32),
  'ShortStorage': np.dtype(np.int16),
  'CharStorage': np.dtype(np.int8),
  'ByteStorage': np.dtype(np.uint8),
  'BoolStorage': np.dtype(np.bool_),
}


@dataclasses.dataclass(frozen=True)
class _StorageType:
  """Stands for one of torch's storage classes."""

  name: str


@contextlib.contextmanager
def open_bin(
  path: pathlib.Path,
) -> Iterator[tuple[dict[str, np.ndarray], Callable[[], None]]]:
  """Maps the tensors of a file into memory as read-only views.

  Yields:
    name -> view, which must not outlive the context, and a function that gives back
    the memory of what has been looked at; it is read again when needed.

  Raises:
    ValueError: if the file is not of this format, is damaged, or holds anything
      but tensors.
  """
  with contextlib.ExitStack() as stack:
    try:
      file = stack.enter_context(open(path, 'rb'))
      archive = stack.enter_context(zipfile.ZipFile(file))
      # The map is not closed by hand: that is an error while a view is alive.
      mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
      tensors = _read_state_dict(archive, memoryview(mapped))
    except (
      zipfile.BadZipFile,
      pickle.UnpicklingError,
      KeyError,
      IndexError,
      TypeError,
      AttributeError,
      EOFError,
      ValueError,
      OverflowError,
      NotImplementedError,  # A compression that this Python does not know.
      RuntimeError,  # An encrypted member.
      MemoryError,
      zlib.error,
    ) as error:
      raise ValueError(
        f'{path} is not a readable zip-format torch file of tensors: {error};'
        ' save it as safetensors, or with torch 1.6 or newer'
      ) from error
    yield tensors, lambda: mapped.madvise(mmap.MADV_DONTNEED)


def _read_state_dict(
  archive: zipfile.ZipFile, file: memoryview
) -> dict[str, np.ndarray]:
  names = [name for name in archive.namelist() if name.endswith('/data.pkl')]
  if len(names) != 1:
    raise ValueError(f'expected one data.pkl, found {names}')
  root = names[0].removesuffix('data.pkl')
  load_storage = lambda key: _storage_bytes(archive, file, f'{root}data/{key}')
  with archive.open(names[0]) as data:
    tensors = _Unpickler(data, load_storage).load()
  if not isinstance(tensors, dict):
    raise ValueError(f'holds a {type(tensors).__name__}, not a dict of tensors')
  odd = [k for k, v in tensors.items() if not isinstance(v, np.ndarray)]
  if odd:
    raise ValueError(f'entries {odd[:5]} are not tensors')
  return dict(tensors)


def _storage_bytes(archive: zipfile.ZipFile, file: memoryview, name: str) -> memoryview:
  """The bytes of one stored (never compressed) member, without a copy."""
  info = archive.getinfo(name)
  if info.compress_type != zipfile.ZIP_STORED:
    raise ValueError(f'member {name} is compressed')
  # The local header repeats name and extra field with lengths of their own.
  header = file[info.header_offset : info.header_offset + 30]
  if bytes(header[:4]) != b'PK\x03\x04':
    raise ValueError(f'member {name} has no local header')
  lengths = (
    int.from_bytes(header[26:28], 'little'),
    int.from_bytes(header[28:30], 'little'),
  )
  start = info.header_offset + 30 + sum(lengths)
  if start + info.file_size > len(file):
    raise ValueError(f'member {name} is cut short')
  return file[start : start + info.file_size]


class _Unpickler(pickle.Unpickler):
  """Admits dicts of tensors; every other global is refused by name."""

  def __init__(self, file: Any, load_storage: Callable[[str], memoryview]) -> None:
    super().__init__(file)
    self._load_storage = load_storage

  def find_class(self, module: str, name: str) -> Any:
    """Maps an allowed global to a harmless stand-in."""
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return lambda *args: _rebuild_tensor(*args)
    if (module, name) == ('torch._utils', '_rebuild_parameter'):
      return lambda data, requires_grad, hooks: data
    if module == 'torch' and name in _DTYPES:
      return _StorageType(name)
    raise pickle.UnpicklingError(f'refused to load {module}.{name}')

  def persistent_load(self, pid: Any) -> np.ndarray:
    """Gives the flat storage that ('storage', type, key, device, count) names."""
    kind, storage_type, key, _, count = pid
    if kind != 'storage' or not isinstance(storage_type, _StorageType):
      raise pickle.UnpicklingError(f'refused persistent id {kind!r}')
    dtype = _DTYPES[storage_type.name]
    data = self._load_storage(str(key))
    if not isinstance(count, int) or count < 0:
      raise ValueError(f'storage {key} is said to hold {count!r} elements')
    if count * dtype.itemsize > len(data):
      raise ValueError(f'storage {key} holds {len(data)} bytes, needs {count} elements')
    return np.frombuffer(data, dtype, count)


def _rebuild_tensor(
  storage: np.ndarray,
  offset: int,
  size: tuple[int, ...],
  stride: tuple[int, ...],
  requires_grad: bool,
  hooks: Any,
  metadata: Any = None,
) -> np.ndarray:
  """A strided view that is checked to stay inside its storage."""
  if not isinstance(storage, np.ndarray) or len(size) != len(stride):
    raise ValueError('a tensor without storage, or with ill-matched strides')
  if min((offset, *size, *stride)) < 0:
    raise ValueError('a tensor with a negative offset, size or stride')
  last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
  if all(size) and last >= storage.size:
    raise ValueError(f'a tensor reaches element {last} of {storage.size}')
  # With a stride of zero a few bytes would stand for any number of elements.
  if math.prod(size) > storage.size:
    raise ValueError(
      f'a tensor of shape {size} has more elements than the {storage.size} stored'
    )
  if not all(size):
    return np.zeros(size, storage.dtype)
  steps = [step * storage.itemsize for step in stride]
  return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)
