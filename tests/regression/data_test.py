"""A user's files of numbers: no row moves, and what is no number is named."""

import numpy as np
import pytest

from adapad_jax.regression.config import DataConfig
from adapad_jax.regression.data import _read


def read(tmp_path, content, suffix='csv'):
  path = tmp_path / f'x.{suffix}'
  path.write_bytes(content)
  return _read(DataConfig(x=str(path)))[0]


@pytest.mark.parametrize(
  'content', [b'1,2\n3,4\n', b'\xef\xbb\xbf1,2\r\n3,4\r\n\r\n', b'1,2\n3,4\n\n\n']
)
def test_numbers(tmp_path, content):
  np.testing.assert_array_equal(read(tmp_path, content), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
  'content, message',
  [
    (b'1,2\n\n3,4\n', 'line 2 is blank'),
    (b'1,2\n  \n\n3,4\n', 'line 2 is blank'),
    (b'\n1,2\n', 'line 1 is blank'),
    (b'', 'it is empty'),
    (b'\n\n', 'it is empty'),
    (b'1,2\n#3,4\n5,6\n', "could not convert string '#3'"),
    (b'1,2\n3\n', 'number of columns changed'),
    (b'a,b\n1,2\n', "could not convert string 'a'"),
    (b'1,2\n\xe9,4\n', 'utf-8'),
  ],
)
def test_a_file_that_would_lose_rows_is_refused(tmp_path, content, message):
  with pytest.raises(
    ValueError, match=f'x.csv. cannot be read as numbers: .*{message}'
  ):
    read(tmp_path, content)
