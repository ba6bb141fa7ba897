"""JSON files as other programs write them, and files that are written whole."""

import errno
import os

import pytest

from adapad_jax.errors import one_line
from adapad_jax.files import read_json, write_atomically, write_bytes


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path):
  path = tmp_path / 'x.json'
  path.write_text('{"a": "ü"}', encoding='utf-8-sig')
  assert read_json(path) == {'a': 'ü'}


@pytest.mark.parametrize('content', [b'{"a": ', '"ü"'.encode('latin-1'), b'\xff\xfe"'])
def test_what_is_not_json_is_refused_with_its_path(tmp_path, content):
  path = tmp_path / 'mine.json'
  path.write_bytes(content)
  with pytest.raises(ValueError, match='mine.json is not JSON'):
    read_json(path)


def test_bytes_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
  path = tmp_path / 'new' / 'x.png'
  write_bytes(path, b'one')
  write_bytes(path, b'two')
  assert path.read_bytes() == b'two'

  def full(descriptor):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(OSError) as caught:
    write_bytes(path, b'three')
  assert f'(while writing {path})' in one_line(caught.value)
  assert path.read_bytes() == b'two' and list(path.parent.iterdir()) == [path]


def test_an_error_names_the_file_and_not_the_partial_one(tmp_path):
  path = tmp_path / 'result.json'
  path.mkdir()
  with pytest.raises(OSError) as caught:
    write_atomically(path, lambda file: file.write('{}'))
  line = one_line(caught.value)
  assert line.startswith(f'{path}: Is a directory; give a file')
  assert 'partial' not in line and list(tmp_path.iterdir()) == [path]
