"""JSON files as other programs write them."""

import pytest

from adapad_jax.files import read_json


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
