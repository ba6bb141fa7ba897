"""Pages tell what was recorded."""

import re

import pytest

from experiments.documented import pages

# So many numbers of a page are changed, one at a time.
CHANGED = 25


def test_every_page_of_experiments_is_held_to_its_rows():
  for page in pages.ROOT.glob('experiments/*/README.md'):
    name = str(page.relative_to(pages.ROOT))
    assert name in pages.PAGES


@pytest.mark.parametrize('name', pages.PAGES)
def test_a_page_tells_what_the_rows_say(name):
  found = [f'{name}:{one.line}: {one.what}' for one in pages.problems(name)]
  assert not found, '\n'.join(found)


@pytest.mark.parametrize('name', pages.PAGES)
def test_a_changed_number_is_found(name):
  page = (pages.ROOT / name).read_text(encoding='utf-8')
  spans = [span for claim in pages.claims(name) for span in claim.check(page)[0]]
  digits = [b for a, b in spans if re.search(r'\d', page[a:b])]
  assert digits
  for end in digits[:: -(-len(digits) // CHANGED)]:
    at = max(i for i in range(end) if page[i].isdigit())
    other = page[:at] + str((int(page[at]) + 1) % 10) + page[at + 1 :]
    line = page.count('\n', 0, at) + 1
    # A claim that is nowhere any more, for its words have changed, has no line.
    assert {line, 0} & {one.line for one in pages.problems(name, other)}
