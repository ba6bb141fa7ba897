"""Bytes of a user's file to text, or a message that says what the file really is."""

import gzip
import io
import pathlib
import re
import zlib
from collections.abc import Iterator

_AS_CSV = 'save the sheet as CSV UTF-8 from the program that made it'
_UNPACK = 'unpack it first'
# What a file that is no UTF-8 text starts with, what it is, and what to do about it.
_SIGNATURES = (
  (rb'\x1f\x8b', 'gzip', 'name it {name}.gz, or unpack it'),
  (rb'PK(\x03\x04|\x05\x06)', 'a zip archive or an Excel workbook', _AS_CSV),
  (rb'\xd0\xcf\x11\xe0', 'an Excel workbook of the old kind', _AS_CSV),
  (rb'BZh[1-9]1AY&SY', 'bzip2', _UNPACK),
  (rb'\xfd7zXZ\x00', 'xz', _UNPACK),
  (rb'\x28\xb5\x2f\xfd', 'zstd', _UNPACK),
  (rb'PAR1\x15', 'parquet', 'give its name the suffix .parquet'),
  (rb'ARROW1\x00', 'an Arrow file', 'save it as .parquet'),
  (rb'%PDF-', 'a PDF document', 'save it as a table'),
  (rb'SQLite format 3\x00', 'an SQLite database', 'save the table as .csv'),
  (rb'version https://git-lfs', 'a Git LFS pointer', 'fetch the data: git lfs pull'),
  (rb'\s*<(!doctype\s+)?html', 'a web page', 'download the file behind it'),
)
_WIDE = (
  (b'\xff\xfe\x00\x00', 'UTF-32'),
  (b'\xff\xfe', 'UTF-16'),
  (b'\xfe\xff', 'UTF-16'),
)
_BOM = b'\xef\xbb\xbf'
# Bytes at the start of a file that tell what it is.
_START = 512
_CONVERT = 'save it as UTF-8, for instance: iconv -f {from_} -t UTF-8 {name}'


def kind_of(path: pathlib.Path) -> tuple[str, bool]:
  """The suffix of a file in lower case without '.gz', and whether it ends in that."""
  name = path.name.lower()
  plain = name.removesuffix('.gz')
  return pathlib.PurePath(plain).suffix, plain != name


def read_text(path: pathlib.Path) -> str:
  """The text of a UTF-8 file, with or without a byte-order mark, packed if '.gz'.

  Line ends stay as they are, except that a file with carriage returns alone gets
  newlines.

  Raises:
    ValueError: if it cannot be read or is something else; names the byte and says
      what to do.
  """
  try:
    data = path.read_bytes()
  except OSError as error:
    raise ValueError(f'{path} cannot be read: {error.strerror}') from error
  if kind_of(path)[1]:
    data = _unpacked(data, path)
  _refuse_others(data, path)
  skip = len(_BOM) if data.startswith(_BOM) else 0
  try:
    text = data[skip:].decode('utf-8')
  except UnicodeDecodeError as error:
    at = error.start + skip
    line = data.count(b'\n', 0, at) + 1
    fix = _CONVERT.format(from_='WINDOWS-1252', name=path.name)
    raise ValueError(
      f'{path}: byte {at} (counted from 0, in line {line}) is 0x{data[at]:02x}, which'
      f' is not UTF-8; {fix}'
    ) from None
  if '\r' in text and '\n' not in text:
    text = text.replace('\r', '\n')
  return text


def split_lines(text: str) -> Iterator[str]:
  """Lines with their ends; a StringIO holds four bytes a character."""
  start = 0
  while end := text.find('\n', start) + 1:
    yield text[start:end]
    start = end
  if start < len(text):
    yield text[start:]


def lines_of(path: pathlib.Path) -> Iterator[str]:
  """The lines of `read_text` with their ends, in the memory of one.

  Raises:
    ValueError: as `read_text`, when the line that is wrong is reached.
  """
  try:
    with gzip.open(path) if kind_of(path)[1] else path.open('rb') as file:
      _refuse_others(file.read(_START), path)
      file.seek(0)
      text = io.TextIOWrapper(file, encoding='utf-8-sig', newline='\n')
      first = text.readline()
      if '\r' in first and not first.endswith('\n'):
        first = first.replace('\r', '\n')  # There are carriage returns alone.
      yield from split_lines(first)
      yield from text
  except (OSError, EOFError, zlib.error, UnicodeDecodeError):
    read_text(path)  # Says what is wrong.
    raise


def _unpacked(data: bytes, path: pathlib.Path) -> bytes:
  if not data.startswith(b'\x1f\x8b'):
    raise ValueError(
      f'{path} is not gzip, as its name says: it starts with {data[:2].hex(" ")}, not'
      ' with 1f 8b; give it the suffix of what it is'
    )
  try:
    return gzip.decompress(data)
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(
      f'{path}: the gzip data is damaged or cut off ({error}); fetch or pack it again'
    ) from error


def _refuse_others(data: bytes, path: pathlib.Path) -> None:
  """Names what a file is that is not text in UTF-8."""
  name = path.name
  for pattern, what, fix in _SIGNATURES:
    if found := re.match(pattern, data, re.IGNORECASE):
      raise ValueError(
        f'{path} is {what}, by its bytes from byte 0 on ({found[0][:8].hex(" ")}), not'
        f' text; {fix.format(name=name)}'
      )
  for mark, wide in _WIDE:
    if data.startswith(mark):
      fix = _CONVERT.format(from_=wide, name=name)
      raise ValueError(
        f'{path} is {wide}, by its bytes from byte 0 on ({mark.hex(" ")}), not UTF-8;'
        f' {fix}'
      )
  # Without a byte-order mark, UTF-16 of mostly Latin text has every other byte zero.
  start = data[:64]
  for first, order in ((0, 'BE'), (1, 'LE')):
    zeros = start[first::2]
    if len(zeros) > 3 and zeros.count(0) > 0.7 * len(zeros):
      fix = _CONVERT.format(from_=f'UTF-16{order}', name=name)
      raise ValueError(
        f'{path} looks like UTF-16 without a byte-order mark: byte {first} and every'
        f' other one after it is zero; {fix}'
      )
