"""A number that a page tells is held to the rows, and none escapes."""

import pytest

from experiments.documented.claims import Table, check, says

PAGE = """# A page

It gains 0.2 points [-1.2, +1.7] on three tasks of
SST-2 with scale 4 and rank 2, see [it](x2.md) and `f(3)`.

## Measured

    python -m it --steps=100

| method | sst2 | rte |
| --- | --- | --- |
| a | 1.5 ± 0.1 | 2,304 |
| b | 9.4e-4 | 7 |
"""
TABLE = PAGE[PAGE.index('| method') :]
SETTINGS = (r'scale 4',)


def claims(gain=0.2, tasks='three', table=TABLE):
  low, high = -1.2, 1.7
  return [
    says('gains {:.1f} points [{:+.1f}, {:+.1f}] on {} tasks', gain, low, high, tasks),
    Table(table, 'Measured'),
  ]


def told(*given, settings=SETTINGS, page=PAGE):
  return [(one.line, one.what) for one in check(page, *given, settings)]


def test_what_the_rows_say_passes():
  assert told(claims()) == []


@pytest.mark.parametrize('text', ['0.3', '0.25', '0.2 ± 0.1', '10.2'])
def test_a_wrong_number_is_named_with_its_line(text):
  page = PAGE.replace('gains 0.2', f'gains {text}')
  [(line, what)] = told(claims(), page=page)
  assert line == 3 and what.startswith(f'stands {text}, the rows say 0.2')


def test_a_number_in_words_is_a_number():
  [(line, what)] = told(claims(tasks='four'))
  assert line == 3 and what.startswith('stands three, the rows say four')


def test_a_sentence_that_is_gone_is_named():
  found = told(claims(), page=PAGE.replace('gains', 'wins'))
  assert 'nowhere says' in found[0][1] and 'gains 0.2 points [-1.2' in found[0][1]
  assert {line for line, _ in found[1:]} == {3}  # What it told is declared no more.


def test_a_number_that_nobody_declared_is_named():
  assert told(claims(), page=PAGE + '\nIt takes 12 s.\n') == [
    (15, 'nothing is declared of 12')
  ]
  [(line, what)] = told(claims(), settings=())
  assert line == 4 and what.endswith(' 4')


def test_a_setting_that_is_gone_is_named():
  [(_, what)] = told(claims(), settings=(*SETTINGS, 'batch 3'))
  assert what == "no longer there, leave it out: 'batch 3'"


def test_a_changed_cell_is_named_with_the_row():
  page = PAGE.replace('| a | 1.5', '| a | 1.6')
  [(line, what)] = told(claims(), page=page)
  assert line == 12 and what.endswith('the rows say a | 1.5 ± 0.1 | 2,304')


def test_rows_that_lack_or_that_nobody_measured_are_named():
  less = TABLE.replace('| b | 9.4e-4 | 7 |\n', '')
  [(line, what)] = told(claims(table=less))
  assert line == 13 and what.endswith('nothing of the kind')
  [(line, what)] = told(claims(table=TABLE + '| c | 1 | 2 |\n'))
  assert line == 10 and what == 'lacks the row c | 1 | 2'
  assert told(claims(table=TABLE + '| c |  |  |\n')) == []


def test_exponents_are_written_short():
  assert (
    told([says('It takes {:.1e} s', 9.4e-4)], page='It takes 9.4e-4 s', settings=())
    == []
  )
