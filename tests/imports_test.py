"""Holds the imports of ../adapad_jax to the table in CONTRIBUTING.md."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / 'adapad_jax'
TEXT = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
# The program itself, and what it needs before anything else may be imported.
START = {'__init__', 'main', 'config_file', 'compilation'}


def names(text):
  return re.findall('`([a-z_]+)`', text)


def table():
  """Package -> what it may import, in the order of the rows; and the leaves."""
  allowed: dict[str, set[str]] = {}
  for line in TEXT.splitlines():
    cells = line.split('|')
    if len(cells) != 5 or not names(cells[1]):
      continue
    above = set(allowed) if 'all of the above' in cells[3] else set()
    for package in names(cells[1]):
      allowed[package] = above | set(names(cells[3]))
  leaves = re.search(r'All may import the leaves:(.*?)`tests', TEXT, re.DOTALL)
  return allowed, set(names(leaves[1]))


def unit(path):
  """The package of a file, or the module that lies beside the packages."""
  parts = path.relative_to(PACKAGE).parts
  return parts[0] if len(parts) > 1 else path.stem


def imported(path):
  """What of ours a file imports, wherever in it."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.ImportFrom) and node.module == 'adapad_jax':
      found |= {name.name for name in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      module = node.module.split('.')
      found |= {module[1]} if module[0] == 'adapad_jax' else set()
    elif isinstance(node, ast.Import):
      modules = [name.name.split('.') for name in node.names]
      found |= {m[1] for m in modules if m[0] == 'adapad_jax' and len(m) > 1}
  return found - {unit(path)}


def module(path):
  """'training.train' of training/train.py."""
  parts = path.relative_to(PACKAGE).with_suffix('').parts
  return '.'.join(parts).removesuffix('.__init__')


def modules_imported(path, modules):
  """The modules among these that a file imports, for checks of types too."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.ImportFrom) and node.module.startswith('adapad_jax'):
      package = node.module.removeprefix('adapad_jax').lstrip('.')
      names = [f'{package}.{name.name}'.lstrip('.') for name in node.names]
      found |= {name if name in modules else package for name in names}
  return found & modules


FILES = [p for p in sorted(PACKAGE.rglob('*.py')) if unit(p) not in START]


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_what_its_package_may(path):
  allowed, leaves = table()
  package = unit(path)
  may = leaves | allowed.get(package, set())
  assert imported(path) <= may, f'{package} may import {sorted(may)}'


def test_every_package_has_a_row_and_rows_look_up_alone():
  allowed, leaves = table()
  assert {unit(path) for path in FILES} == set(allowed) | leaves
  order = list(allowed)
  for package, others in allowed.items():
    for other in others - leaves - {'problem'}:
      assert order.index(other) < order.index(package), f'{package} imports {other}'


@pytest.mark.parametrize('package', ['training', 'workdir', 'regression', 'commands'])
def test_no_module_imports_one_that_imports_it(package):
  """Not by way of others either."""
  paths = {module(path): path for path in FILES if unit(path) == package}
  left = {name: modules_imported(path, set(paths)) for name, path in paths.items()}
  for name in left:
    left[name] -= {name, package}  # The package's own file offers what they define.
  while free := [name for name, others in left.items() if not others & left.keys()]:
    for name in free:
      del left[name]
  assert not left
