"""Collectives of a compiled program, and the loops that they sit in."""

import re

COLLECTIVES = r'all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute'


def computations(hlo: str) -> dict[str, str]:
  """The named blocks of a compiled program."""
  blocks, name = {}, ''
  for line in hlo.splitlines():
    if found := re.match(r'^(?:ENTRY )?%?([\w.\-]+) .*\{$', line):
      name = found.group(1)
    blocks[name] = blocks.get(name, '') + line + '\n'
  return blocks


def collectives(hlo: str) -> list[tuple[str, int]]:
  """Every collective with the number of loops around it."""
  blocks = computations(hlo)
  parent = {
    body: name
    for name, text in blocks.items()
    for body in re.findall(r' while\(.*body=%?([\w.\-]+)', text)
  }

  def depth(name: str) -> int:
    return 1 + depth(parent[name]) if name in parent else 0

  return [
    (kind, depth(name))
    for name, text in blocks.items()
    for kind in re.findall(rf' ({COLLECTIVES})(?:-start)?\(', text)
  ]
