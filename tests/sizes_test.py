"""Files and functions stay as small as ../CONTRIBUTING.md says."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ('adapad_jax', 'configs', 'experiments', 'tests', 'docs')
FILES = [path for name in FOLDERS for path in sorted((ROOT / name).rglob('*.py'))]


def lines_of(function):
  """Lines of a function, its docstring not counted."""
  count = function.end_lineno - function.lineno + 1
  if ast.get_docstring(function) is not None:
    text = function.body[0]
    count -= text.end_lineno - text.lineno + 1
  return count


@pytest.mark.parametrize('folder', FOLDERS)
def test_files_stay_below_400_lines_and_functions_below_60(folder):
  long = []
  for path in FILES:
    name = path.relative_to(ROOT)
    if name.parts[0] != folder:
      continue
    text = path.read_text(encoding='utf-8')
    if text.count('\n') >= 400:
      long.append(str(name))
    for node in ast.walk(ast.parse(text)):
      is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
      if is_function and lines_of(node) >= 60:
        long.append(f'{name}: {node.name}')
  assert not long


def test_a_docstring_does_not_count():
  (plain,) = ast.parse('def f():\n  return 1\n').body
  (told,) = ast.parse('def f():\n  """A\n\n  B"""\n  return 1\n').body
  assert lines_of(plain) == lines_of(told) == 2
