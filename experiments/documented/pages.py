"""Holds pages to recorded rows: every number of theirs is claimed or a setting.

  python -m experiments.documented.pages

Prints where a page differs from the rows, and what they say; ends with status 1 then.
"""

import functools
import pathlib
import sys
import types

from experiments.documented import (
  concepts,
  export,
  faq,
  federated,
  glue,
  models,
  overview,
  readme,
  sft,
  speed,
  squad,
  theory,
)
from experiments.documented.claims import Claim, Problem, Table, check

ROOT = pathlib.Path(__file__).parents[2]
# Page -> the module that says what its numbers are.
PAGES: dict[str, types.ModuleType] = {
  'README.md': readme,
  'docs/concepts.md': concepts,
  'docs/faq.md': faq,
  'docs/models.md': models,
  'experiments/README.md': overview,
  'experiments/export/README.md': export,
  'experiments/federated/README.md': federated,
  'experiments/glue/README.md': glue,
  'experiments/sft/README.md': sft,
  'experiments/speed/README.md': speed,
  'experiments/squad/README.md': squad,
  'experiments/theory/README.md': theory,
}


@functools.cache
def claims(name: str) -> list[Claim | Table]:
  """What a page tells, and what the rows say of it."""
  return list(PAGES[name].claims())


def problems(name: str, text: str | None = None) -> list[Problem]:
  """What is wrong with a page, or with another text in its place."""
  there = (ROOT / name).read_text(encoding='utf-8') if text is None else text
  return check(there, claims(name), PAGES[name].SETTINGS)


def main() -> None:
  """Prints what is wrong with all pages.

  Raises:
    SystemExit: if anything is.
  """
  found = [(name, one) for name in PAGES for one in problems(name)]
  for name, one in found:
    print(f'{name}:{one.line}: {one.what}')
  if found:
    sys.exit(1)


if __name__ == '__main__':
  main()
