"""Reading tables: quoting, byte-order marks, ragged lines and what is refused."""

import gzip
import json
import re

import pytest

from adapad_jax.tasks.files import folder_tables, read_table, read_tsv


def test_tsv_keeps_quotes_and_drops_the_byte_order_mark(tmp_path):
  path = tmp_path / 'a.tsv'
  path.write_bytes(
    b'\xef\xbb\xbftext\tlabel\n"one\t1\nsays "two" \xe2\x80\xa8 x\t0\r\n'
  )
  table = read_table(path)
  assert table.columns == {
    'text': ['"one', 'says "two" \u2028 x'],
    'label': ['1', '0'],
  }


def test_csv_unquotes_and_keeps_newlines_and_long_fields(tmp_path):
  path = tmp_path / 'a.csv'
  long = 'word ' * 40_000
  path.write_text(f'text,label\n"a, ""b""\nc",1\n"{long}",0\n', encoding='utf-8')
  table = read_table(path)
  assert table['text'] == ['a, "b"\nc', long]
  assert len(table) == 2


def test_short_line_gives_none(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('text,label\nlonely\n')
  assert read_table(path).columns == {'text': ['lonely'], 'label': [None]}


def test_too_many_cells_are_refused_unless_ragged(tmp_path):
  path = tmp_path / 'a.tsv'
  path.write_text('text\tlabel\nfine\t1\nx\t1\textra\n')
  with pytest.raises(ValueError, match=r'row 1 .* has 3 cells, but there are 2'):
    read_table(path)
  assert read_tsv(path, ragged=True)['text'] == ['fine', 'x']


def test_jsonl_unites_keys_and_names_a_broken_line(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text(json.dumps({'text': 'é', 'label': 1}) + '\n\n{"text": "b"}\n')
  assert read_table(path).columns == {'text': ['é', 'b'], 'label': [1, None]}
  path.write_text('{"text": "b"}\n{oops\n')
  with pytest.raises(ValueError, match='line 2: not JSON'):
    read_table(path)
  path.write_text('[1]\n')
  with pytest.raises(ValueError, match='one JSON object per line'):
    read_table(path)


def test_parquet(tmp_path):
  arrow = pytest.importorskip('pyarrow')
  parquet = pytest.importorskip('pyarrow.parquet')
  path = tmp_path / 'a.parquet'
  parquet.write_table(arrow.table({'text': ['a', None], 'label': [1.5, 2.0]}), path)
  assert read_table(path).columns == {'text': ['a', None], 'label': [1.5, 2.0]}


def test_missing_file_lists_its_neighbours(tmp_path):
  (tmp_path / 'train.csv').write_text('text,label\n')
  with pytest.raises(ValueError, match=r"no file .*trian.csv; .* has \['train.csv'\]"):
    read_table(tmp_path / 'trian.csv')
  with pytest.raises(ValueError, match='there is no folder'):
    read_table(tmp_path / 'nowhere' / 'train.csv')


def test_unknown_suffix_lists_the_known_ones(tmp_path):
  path = tmp_path / 'a.xlsx'
  path.write_text('')
  with pytest.raises(ValueError, match=re.escape("'.csv', '.jsonl'")):
    read_table(path)


def test_a_folder_is_no_file(tmp_path):
  with pytest.raises(ValueError, match='is a folder, where a file is needed'):
    read_table(tmp_path)


@pytest.mark.parametrize('name', ['a.csv.zip', 'a.gz', 'a.parquet.gz', 'a', 'a.txt'])
def test_suffixes_that_name_no_table(tmp_path, name):
  path = tmp_path / name
  path.write_bytes(b'x')
  with pytest.raises(ValueError, match='unknown kind of file .*may end in .gz'):
    read_table(path)


def test_files_of_a_folder_in_any_spelling(tmp_path):
  (tmp_path / 'train.CSV').write_text('text\na\n')
  (tmp_path / 'validation.jsonl.GZ').write_bytes(gzip.compress(b'{"text": "b"}'))
  for other in ('train2.csv', 'train.txt', 'my.train.csv', 'train.csv.bak', 'Test.csv'):
    (tmp_path / other).write_text('')
  (tmp_path / 'test.csv').mkdir()
  found = folder_tables(tmp_path, ('train', 'validation', 'test'))
  texts = {name: read()['text'] for name, read in found.items()}
  assert texts == {'train': ['a'], 'validation': ['b']}


@pytest.mark.parametrize('name', ['dev', 'valid', 'val', 'eval'])
def test_rows_to_validate_on_have_the_names_that_the_hub_gives_them(tmp_path, name):
  (tmp_path / f'{name}.csv').write_text('text\nb\n')
  assert folder_tables(tmp_path, ['validation'])['validation']()['text'] == ['b']
  # None of two names is more likely to be meant than the other.
  (tmp_path / 'validation.tsv').write_text('text\nc\n')
  with pytest.raises(ValueError, match=f"2 files for the split 'validation': .*{name}"):
    folder_tables(tmp_path, ['validation'])


@pytest.mark.parametrize('split', ['train', 'validation', 'test'])
@pytest.mark.parametrize('other', ['jsonl', 'CSV', 'csv.gz', 'json', 'parquet'])
def test_two_files_of_one_split_are_ambiguous(tmp_path, split, other):
  for name in (f'{split}.csv', f'{split}.{other}'):
    (tmp_path / name).write_text('')
  with pytest.raises(ValueError, match=f"2 files for the split '{split}': .*{other}"):
    folder_tables(tmp_path, ('train', 'validation', 'test'))
