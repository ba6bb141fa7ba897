"""What a page claims, and where it differs from what the rows say."""

import dataclasses
import re
import string
from collections.abc import Iterator, Sequence

_NUMBER = r'[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?'
_WORDS = 'none|one|two|three|four|five|six|seven|eight|nine|ten|never|a third'
# What stands where a claim has a field: '0.2', '66.9 ± 0.7', '+0.2 [-1.2, +1.7]'.
_FIELD = (
  rf'({_NUMBER}(?: ± {_NUMBER})?(?: \[{_NUMBER}, {_NUMBER}\])?|(?<!\w)(?:{_WORDS})\b)'
)
# Numbers that stand by themselves; those of names (SST-2, H100, v1.1) do not.
_ALONE = re.compile(rf'(?<![\w.])(?<!\w-){_NUMBER}')
# What is no prose: blocks of code, code in a line, targets of links, tags.
_CODE = re.compile(
  r'^```.*?^```|(?<=\n\n)(?:    [^\n]*\n+)+|`[^`]+`|\]\([^)]*\)|<[^>]*>', re.M | re.S
)
# Numbers that name a setting wherever they stand.
_SETTINGS = re.compile(
  r'\b(?:[Rr]anks?|seeds?|Seed) \d+(?:(?:, \d+)* (?:and|or|to) \d+)?\b|\br = \d+\b'
  r'|arXiv:\d{4}\.\d{5}|\b95 %|\bbatch(?:es)? of 32\b'
  r'|\b\d+ x [\d,]+ (?:tokens|positions)'
)
Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Problem:
  """Where a page differs from the rows.

  Attributes:
    line: of the page, the first being 1.
    what: what stands there, and what the rows say.
  """

  line: int
  what: str


@dataclasses.dataclass(frozen=True)
class Claim:
  """A piece of a page with fields for its numbers.

  Attributes:
    text: '{:.1f} points' and so on; any white space stands for any other.
    values: of the fields, from the rows.
  """

  text: str
  values: tuple[object, ...]

  def check(self, page: str) -> tuple[list[Span], list[Problem]]:
    """The numbers that it settles, and those that differ from the rows."""
    pattern, wanted = self._parts()
    spans, problems, everywhere = [], [], list(pattern.finditer(page))
    for found in everywhere:
      spans.append(found.span())
      for i, right in enumerate(wanted, 1):
        if found[i] != right:
          what = f'stands {found[i]}, the rows say {right}: {self.text!r}'
          problems.append(Problem(line_of(page, found.start(i)), what))
    if not everywhere:
      filled = self.text.format(*self.values)
      problems.append(Problem(0, f'nowhere says what the rows say: {filled!r}'))
    return spans, problems

  def _parts(self) -> tuple[re.Pattern[str], list[str]]:
    """What finds it, and its numbers as they should stand."""
    pattern, wanted, values = '', [], iter(self.values)
    for literal, field, spec, _ in string.Formatter().parse(self.text):
      words = re.split(r'\s+', literal)
      pattern += r'\s+'.join(map(re.escape, words))
      if field is not None:
        pattern += _FIELD
        right = format(next(values), spec)
        wanted.append(re.sub(r'e([-+])0+(?=\d)', r'e\1', right))
    # A number does not begin or end within another.
    return re.compile(rf'(?<![\d.,]){pattern}(?![\d%])'), wanted


def says(text: str, *values: object) -> Claim:
  """A sentence, or a piece of one, with its numbers."""
  return Claim(text, values)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table of a page that a command prints; rows without figures are left out.

  Attributes:
    fresh: as the command prints it now.
    after: a piece of the page after which it is the first table with its head.
  """

  fresh: str
  after: str

  def check(self, page: str) -> tuple[list[Span], list[Problem]]:
    """The lines that it settles, and those that differ."""
    head, _, *fresh = self.fresh.splitlines()
    at = self._start(page, cells_of(head))
    if at < 0:
      return [], [Problem(0, f'no table after {self.after!r} with the head {head}')]
    spans = list(lines_of_table(page, at))
    there = [cells_of(page[slice(*span)]) for span in spans]
    right_ones, problems = list(map(cells_of, fresh)), []
    lacking = [c for c in right_ones if any(c[1:]) and c not in there]
    for span, cells in zip(spans, there, strict=True):
      if cells not in right_ones:
        right = max(lacking, key=lambda other: alike(cells, other), default=[])
        said = ' | '.join(right) or 'nothing of the kind'
        what = f'stands {" | ".join(cells)}, the rows say {said}'
        problems.append(Problem(line_of(page, span[0]), what))
        lacking = [other for other in lacking if other != right]
    first = line_of(page, at)
    for cells in lacking:
      problems.append(Problem(first, f'lacks the row {" | ".join(cells)}'))
    return spans, problems

  def _start(self, page: str, head: list[str]) -> int:
    """Where the table begins; -1 if it is not there."""
    start = page.find(self.after)
    lines = re.compile(r'^\|.*', re.M).finditer(page, max(start, 0))
    heads = (line.start() for line in lines if cells_of(line[0]) == head)
    return next(heads, -1) if start >= 0 else -1


def alike(one: Sequence[str], other: Sequence[str]) -> tuple[bool, int]:
  """How much two rows of a table look like the same row."""
  pairs = list(zip(one, other, strict=False))
  return pairs[0][0] == pairs[0][1], sum(a == b for a, b in pairs)


def cells_of(line: str) -> list[str]:
  """The cells of a table's row."""
  return [cell.strip() for cell in line[1:].rstrip().removesuffix('|').split('|')]


def lines_of_table(page: str, start: int) -> Iterator[Span]:
  """Where the rows of the table are whose head begins there."""
  for i, found in enumerate(re.compile(r'.*\n?').finditer(page, start)):
    if not found[0].startswith('|'):
      return
    if i > 1:
      yield found.start(), found.start() + len(found[0].rstrip('\n'))


def line_of(page: str, at: int) -> int:
  """The number of the line of a position."""
  return page.count('\n', 0, at) + 1


def check(
  page: str, claims: Sequence[Claim | Table], settings: Sequence[str]
) -> list[Problem]:
  """What is wrong with a page: numbers that differ, and numbers without a claim.

  Args:
    page: Markdown.
    claims: what it tells of recorded rows.
    settings: patterns of its other numbers: sizes, dates, figures of others.
  """
  covered, problems = [one.span() for one in _SETTINGS.finditer(page)], []
  for claim in claims:
    spans, wrong = claim.check(page)
    covered += spans
    problems += wrong
  for pattern in settings:
    found = [one.span() for one in re.finditer(pattern, page)]
    covered += found
    if not found:
      problems.append(Problem(0, f'no longer there, leave it out: {pattern!r}'))
  blank = lambda found: re.sub(r'\S', ' ', found[0])
  for found in _ALONE.finditer(_CODE.sub(blank, page)):
    if not any(a <= found.start() and found.end() <= b for a, b in covered):
      what = f'nothing is declared of {found[0]}'
      problems.append(Problem(line_of(page, found.start()), what))
  return sorted(problems, key=lambda one: one.line)
