"""Collectives of a compiled program, and the loops that they sit in."""

import re

import jax
import numpy as np

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
  return [(kind, depth) for kind, depth, _ in _collectives(hlo)]


def traffic(hlo: str, mesh: jax.sharding.Mesh) -> list[tuple[str, int, tuple]]:
  """Every collective with the loops around it and the mesh axes it goes along."""
  return [(kind, depth, _axes(line, mesh)) for kind, depth, line in _collectives(hlo)]


def _collectives(hlo: str) -> list[tuple[str, int, str]]:
  blocks = computations(hlo)
  parent = {
    body: name
    for name, text in blocks.items()
    for body in re.findall(r' while\(.*body=%?([\w.\-]+)', text)
  }

  def depth(name: str) -> int:
    return 1 + depth(parent[name]) if name in parent else 0

  return [
    (found.group(1), depth(name), line)
    for name, text in blocks.items()
    for line in text.splitlines()
    if (found := re.search(rf' ({COLLECTIVES})(?:-start)?\(', line))
  ]


def _axes(line: str, mesh: jax.sharding.Mesh) -> tuple[str, ...]:
  """The axes along which the devices of a collective's first group differ."""
  # As jaxlib 0.12 writes it: replica_groups=mesh['worker'=2,'data'=2] {'data'}.
  if found := re.search(r'replica_groups=mesh\[[^\]]*\][^{]*\{([^}]*)\}', line):
    named = re.findall(r"'([^']+)'", found.group(1))
    return tuple(n for n in mesh.axis_names if n in named and mesh.shape[n] > 1)
  if found := re.search(r'replica_groups=\{\{([\d,]+)\}', line):
    group = [int(i) for i in found.group(1).split(',')]
  else:
    found = re.search(
      r'replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?', line
    )
    shape, dims, turn = (
      [int(i) for i in part.split(',')] if part else None for part in found.groups()
    )
    ids = np.arange(np.prod(dims)).reshape(dims).transpose(turn).reshape(shape)
    group = list(ids[0])
  places = np.array(np.unravel_index(group, tuple(mesh.shape.values())))
  return tuple(
    name for name, place in zip(mesh.axis_names, places, strict=True) if np.ptp(place)
  )
