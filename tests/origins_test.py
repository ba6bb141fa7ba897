"""Tests ../adapad_jax/origins.py."""

import hashlib

import numpy as np
import pytest

from adapad_jax import origins
from adapad_jax.origins import digest, file_origin


def test_a_file_is_told_by_all_its_bytes(tmp_path):
  path = tmp_path / 'x'
  content = np.random.default_rng(0).bytes(100_003)
  path.write_bytes(content)
  found = file_origin(path)
  assert found.digest == f'sha256:{hashlib.sha256(content).hexdigest()}'
  assert (found.path, found.bytes) == (str(path), 100_003)


@pytest.mark.parametrize(
  'at, is_seen',
  [(0, True), (2**20 + 5, True), (3 * 2**20 - 1, True), (2**19, False)],
)
def test_a_large_file_is_sampled_at_every_stride_and_at_its_end(
  tmp_path, monkeypatch, at, is_seen
):
  monkeypatch.setattr(origins, '_WHOLE', 2**20)
  path = tmp_path / 'x'
  content = bytearray(np.random.default_rng(0).bytes(3 * 2**20))
  path.write_bytes(content)
  before = digest(path)
  assert before.startswith('sampled-sha256:') and len(before) == 15 + 64
  content[at] ^= 1
  path.write_bytes(content)
  assert (digest(path) != before) == is_seen
  path.write_bytes(content + b'x')
  assert digest(path) != before
