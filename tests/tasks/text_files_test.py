"""Bytes to text: what a file really is, by name, byte and remedy."""

import bz2
import gzip
import io
import lzma
import re
import zipfile

import pytest

from adapad_jax.tasks.text_files import kind_of, lines_of, read_text

TEXT = 'text,label\ngood film,pos\n'
PACKED = gzip.compress(TEXT.encode() * 100, mtime=0)


def archive():
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w') as file:
    file.writestr('train.csv', TEXT)
  return buffer.getvalue()


@pytest.mark.parametrize(
  'name, content, expected',
  [
    ('a.csv', TEXT.encode(), TEXT),
    ('a.csv', b'\xef\xbb\xbf' + TEXT.encode(), TEXT),
    ('a.csv', TEXT.replace('\n', '\r').encode(), TEXT),
    ('a.csv', TEXT.replace('\n', '\r\n').encode(), TEXT.replace('\n', '\r\n')),
    ('a.csv.gz', PACKED, TEXT * 100),
    (
      'a.CSV.GZ',
      gzip.compress(b'\xef\xbb\xbfa', mtime=0) + gzip.compress(b'b', mtime=0),
      'ab',
    ),
    ('a.csv', b'', ''),
    ('a.csv', 'naïve 東京 \u2028'.encode(), 'naïve 東京 \u2028'),
  ],
)
def test_text(tmp_path, name, content, expected):
  path = tmp_path / name
  path.write_bytes(content)
  assert read_text(path) == expected
  assert list(lines_of(path)) == re.findall('[^\n]*\n|[^\n]+', expected)


@pytest.mark.parametrize(
  'name, content, message',
  [
    (
      'a.csv',
      b'text\ncaf\xe9\n',
      r'byte 8 \(.*in line 2\) is 0xe9, .* not UTF-8.*iconv',
    ),
    ('a.csv', b'\xef\xbb\xbfa\ncaf\xe9\n', r'byte 8 \(.*in line 2\) is 0xe9'),
    ('a.csv.gz', gzip.compress(b'\xe9', mtime=0), r'byte 0 \(.*in line 1\) is 0xe9'),
    ('a.csv', b'text\n\xed\xa0\xbd\n', 'byte 5 .* is 0xed, which is not UTF-8'),
    ('a.csv', TEXT.encode('utf-16'), r'is UTF-16, .*\(ff fe\).*iconv -f UTF-16 '),
    ('a.csv', TEXT.encode('utf-32'), r'is UTF-32, .*\(ff fe 00 00\)'),
    ('a.csv', TEXT.encode('utf-16-le'), 'looks like UTF-16 .*byte 1 and every other'),
    ('a.csv', TEXT.encode('utf-16-be'), 'looks like UTF-16 .*byte 0 and every other'),
    ('a.csv', PACKED, r'is gzip, .*\(1f 8b\).*name it a.csv.gz'),
    ('a.csv.gz', TEXT.encode(), 'is not gzip, as its name says: it starts with 74 65'),
    ('a.csv.gz', PACKED[:-12], 'the gzip data is damaged or cut off'),
    ('a.csv.gz', PACKED[:12] + b'\xff' * 9 + PACKED[21:], 'gzip data is damaged'),
    ('a.csv', archive(), r'zip archive or an Excel workbook.*\(50 4b 03 04\).*UTF-8'),
    ('a.jsonl', b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1', 'Excel workbook of the old kind'),
    ('a.tsv', bz2.compress(TEXT.encode()), 'is bzip2'),
    ('a.tsv', lzma.compress(TEXT.encode()), 'is xz'),
    ('a.csv', b'PAR1\x15\x04', 'is parquet, .*suffix .parquet'),
    ('a.csv', b'version https://git-lfs.github.com/spec/v1', 'Git LFS pointer'),
    ('a.csv', b'<!DOCTYPE html><html>', 'is a web page'),
  ],
)
def test_what_is_no_text_is_named(tmp_path, name, content, message):
  path = tmp_path / name
  path.write_bytes(content)
  with pytest.raises(
    ValueError, match=f'^{re.escape(str(path))}:? .*{message}'
  ) as told:
    read_text(path)
  assert '\n' not in str(told.value)
  with pytest.raises(ValueError, match=f'^{re.escape(str(told.value))}$'):
    list(lines_of(path))


def test_a_file_that_is_gone_is_one_line(tmp_path):
  with pytest.raises(ValueError, match='x.csv cannot be read: No such file'):
    read_text(tmp_path / 'x.csv')


@pytest.mark.parametrize(
  'name, expected',
  [
    ('a.csv', ('.csv', False)),
    ('A.CSV', ('.csv', False)),
    ('a.b.TSV.Gz', ('.tsv', True)),
    ('a.gz', ('', True)),
    ('a', ('', False)),
  ],
)
def test_kind_of(tmp_path, name, expected):
  assert kind_of(tmp_path / name) == expected
