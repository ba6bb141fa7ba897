"""Runs the examples of ../docs/extending.md, one after the other, on a tiny model."""

import json
import pathlib
import re

import numpy as np
import pytest

from adapad_jax.methods import METHODS
from adapad_jax.models.families import FAMILIES
from adapad_jax.tasks.load import SOURCES
from tests import tiny

DOCUMENT = pathlib.Path(__file__).parents[1] / 'docs' / 'extending.md'


def make_folder(folder):
  """The tiny task in the layout of the example, and a model of its family."""
  tiny.make_data(folder)
  words = {'pos': 'ham', 'neg': 'spam'}
  for name in ('train', 'validation'):
    lines = (folder / f'{name}.csv').read_text().splitlines()[1:]
    cells = [line.rsplit(',', 1) for line in lines]
    text = ''.join(f'{words[label]}\t{message}\n' for message, label in cells)
    (folder / f'{name}.txt').write_text(text)
  tiny.make_model(folder / 'model')
  size = {'vocab_size': 5 + len(tiny.WORDS), 'hidden_size': 16, 'max_length': 32}
  config = {'model_type': 'average', 'num_hidden_layers': 2, **size}
  (folder / 'model' / 'config.json').write_text(json.dumps(config))


@pytest.fixture(scope='module')
def example(tmp_path_factory):
  """What the document's programs leave behind; the tables are put back."""
  folder = tmp_path_factory.mktemp('extending')
  make_folder(folder)
  programs = re.findall(r'```python\n(.*?)```', DOCUMENT.read_text(), re.S)
  assert len(programs) == 4
  tables = [(table, dict(table)) for table in (METHODS, FAMILIES, SOURCES)]
  names = {'FOLDER': str(folder)}
  try:
    for program in programs:
      exec(compile(program, str(DOCUMENT), 'exec'), names)
    yield names
  finally:
    for table, before in tables:
      table.clear()
      table.update(before)


def test_the_task_is_learned_by_the_method_on_the_backbone(example):
  plan, result = example['run'].plan, example['result']
  assert plan.task.label_names == ('ham', 'spam')
  assert set(result['ranks']) == {'layer.0', 'layer.1'}
  assert result['best']['metrics']['accuracy'] > 0.9
  assert result['baseline']['metrics']['accuracy'] < 0.7
  assert example['run'].evaluate() == result['best']['metrics']


def test_the_method_trained_half_of_its_parameters(example):
  run = example['run']
  start = run.plan.method.init(run.session.head)
  for name, update in run.adapter.modules.items():
    # Directions of the update lie in the span of those that were drawn and kept.
    a_RI = np.asarray(start.tuned.auxiliary[name])
    inside = update.a_RI @ np.linalg.pinv(a_RI) @ a_RI
    np.testing.assert_allclose(inside, update.a_RI, atol=1e-5)
    assert np.linalg.norm(update.weight()) > 0.01
