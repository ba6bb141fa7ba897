"""Files that a mode writes: none is lost, and what cannot be written is said first."""

import os

import pytest

from adapad_jax.commands import Request
from adapad_jax.commands.outputs import check_outputs
from adapad_jax.commands.report import run as report
from tests.commands.exchange import DEFAULTS


@pytest.fixture
def mine(tmp_path):
  path = tmp_path / 'mine.csv'
  path.write_text('text\ngood\n')
  return path


def test_a_new_file_in_a_new_folder_is_fine_and_nothing_is_made(tmp_path, mine):
  check_outputs([tmp_path / 'a' / 'b' / 'out.csv'], overwrite=False, source=mine)
  assert [path.name for path in tmp_path.iterdir()] == ['mine.csv']


def spellings(mine):
  """The same file, under other names."""
  folder = mine.parent
  os.symlink(mine, folder / 'link.csv')
  os.link(mine, folder / 'hard.csv')
  os.symlink(folder, folder / 'self')
  return [
    mine,
    folder / 'link.csv',
    folder / 'hard.csv',
    folder / 'self' / 'mine.csv',
    folder / 'self' / '..' / folder.name / 'mine.csv',
    type(mine)(os.path.relpath(mine)),
  ]


@pytest.mark.parametrize('overwrite', [False, True])
def test_the_input_is_never_replaced_under_any_name(mine, overwrite):
  for path in spellings(mine):
    with pytest.raises(ValueError, match='is the file that --input='):
      check_outputs([path], overwrite=overwrite, source=mine)


def test_what_exists_is_replaced_only_when_asked_for(tmp_path, mine):
  for path in (tmp_path / 'old.csv', tmp_path / 'dangling.csv'):
    path.write_text('') if path.stem == 'old' else path.symlink_to('nowhere')
    with pytest.raises(ValueError, match=f'{path.name} exists already; .*--overwrite'):
      check_outputs([tmp_path / 'new.csv', path], overwrite=False, source=mine)
    check_outputs([path], overwrite=True, source=mine)


@pytest.mark.parametrize(
  'name, message',
  [
    ('', 'is a folder; --output must name a file'),
    ('mine.csv/out.csv', 'mine.csv is not a folder'),
    ('mine.csv/a/b/out.csv', 'mine.csv is not a folder'),
    ('x' * 300 + '.csv', 'cannot be written: File name too long'),
    ('a\0b.csv', 'cannot be written: .*embedded null'),
  ],
)
def test_where_nothing_can_be_written(tmp_path, mine, name, message):
  for overwrite in (False, True):
    with pytest.raises(ValueError, match=message):
      check_outputs([tmp_path / name], overwrite=overwrite, source=mine)


def test_a_folder_without_permission(tmp_path, mine, monkeypatch):
  asked = []
  monkeypatch.setattr(os, 'access', lambda path, mode: asked.append(path))
  with pytest.raises(ValueError, match='no permission to write in'):
    check_outputs([tmp_path / 'a' / 'out.csv'], overwrite=True, source=mine)
  assert asked == [tmp_path]


def test_a_report_that_is_no_comparison_has_its_place(tmp_path):
  asked = DEFAULTS | {'output': 'mine.html'}
  with pytest.raises(ValueError, match='--output=mine.html is where a comparison'):
    report(Request(None, str(tmp_path), asked))
  with pytest.raises(ValueError, match='--workdir=, names no run'):
    report(Request(None, ',', DEFAULTS))


@pytest.mark.parametrize('output', ['', 'mine.html'])
def test_a_comparison_that_exists_is_kept(tmp_path, output):
  there = tmp_path / (output or 'comparison.html')
  there.write_text('mine')
  asked = {'output': str(there) if output else ''}
  folders = f'{tmp_path}/one,{tmp_path}/two'
  with pytest.raises(ValueError, match='exists already; .*--overwrite'):
    report(Request(None, folders, DEFAULTS | asked))
  assert there.read_text() == 'mine'
