"""Where data and models came from: files by what they hold, repositories by commit."""

import dataclasses
import hashlib
import os
import pathlib

from adapad_jax.ranges import Size, Text

# Above that many bytes a file is sampled: this much at the start of every stride.
_WHOLE = 2**29
_STRIDE = 2**20
_SAMPLE = 2**14


@dataclasses.dataclass(frozen=True)
class FileOrigin:
  """One file as it was when it was read.

  Attributes:
    path: absolute for data, the bare name for a file of a model's folder.
    bytes: its size.
    digest: see `digest`.
  """

  path: Text
  bytes: Size
  digest: Text


@dataclasses.dataclass(frozen=True)
class HubCommit:
  """A repository on the hub.

  Attributes:
    repo: e.g. 'nyu-mll/glue'.
    revision: the branch, tag or commit that was asked for.
    commit: what that was, 40 hex digits.
  """

  repo: Text
  revision: Text
  commit: Text

  def __str__(self) -> str:
    return f'{self.repo} at commit {self.commit[:12]} of {self.revision}'


def file_origin(path: pathlib.Path) -> FileOrigin:
  """What a file holds now.

  Raises:
    OSError: if it cannot be read.
  """
  path = path.absolute()
  return FileOrigin(str(path), path.stat().st_size, digest(path))


def digest(path: pathlib.Path) -> str:
  """'sha256:...' of the bytes of a file, 'sampled-sha256:...' of one above 512 MiB.

  The latter is of the size, of the first 16 KiB of every MiB and of the last 16 KiB:
  of a checkpoint that is its header and a part of every tensor above a MiB. It tells
  one checkpoint from another, not from one with a few changed numbers.

  Raises:
    OSError: if it cannot be read.
  """
  size = os.path.getsize(path)
  with path.open('rb') as file:
    if size <= _WHOLE:
      return f'sha256:{hashlib.file_digest(file, "sha256").hexdigest()}'
    found = hashlib.sha256(f'{size}:'.encode())
    for start in (*range(0, size, _STRIDE), size - _SAMPLE):
      file.seek(start)
      found.update(file.read(_SAMPLE))
  return f'sampled-sha256:{found.hexdigest()}'
