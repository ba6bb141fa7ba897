"""Every recipe of the README that needs the hub, from a cold cache to an export.

Models are tiny but of the right family and in the layout of the public ones.
"""

import pytest

from adapad_jax.files import read_json
from configs import glue, squad
from tests.commands.exchange import call
from tests.hub import repositories
from tests.hub.client import connected

DEBERTA, QWEN = 'microsoft/deberta-v3-base', 'Qwen/Qwen3-0.6B'
# A run of seconds; everything else is the recipe's own.
SHORT = {
  'train': {'steps': 3, 'batch': 4, 'evaluations': 1, 'eval_batch': 8, 'buckets': ()},
  'adapad': {'budget': 14, 'r_max': 2, 'start': 1, 'interval': 1, 'grants': 2},
  'mesh': {'worker': 1, 'data': 1},
  'data': {'max_length': 64},
}
RECIPES = {
  'rte': (glue.get_config('rte'), {}),
  'stsb': (glue.get_config('stsb'), {}),
  'mnli': (glue.get_config('mnli'), {}),
  'own': (
    glue.get_config('classification'),
    {'data': {'path': 'someuser/opinions'}, 'model': {'source': DEBERTA}},
  ),
  'v1': (squad.get_config('v1'), {'data': {'max_length': 96}}),
  'v1,encoder': (squad.get_config('v1,encoder'), {}),
  'v2': (squad.get_config('v2'), {'data': {'max_length': 96}}),
}


def values(name):
  """The config of a recipe, made short."""
  config, own = RECIPES[name]
  found = config.to_dict()
  for groups in (SHORT, own):
    for group, fields in groups.items():
      found[group] |= fields
  found['optimizer']['warmup'] = found['head_optimizer']['warmup'] = 1.0
  found['data']['qa'] |= {'overlap': 8, 'max_question': 32, 'max_answer': 4}
  return found


@pytest.fixture(scope='module')
def hub(tmp_path_factory):
  """A hub with all that the recipes ask for, and this process as its client."""
  pytest.importorskip('torch')
  folder = tmp_path_factory.mktemp('hub')
  with pytest.MonkeyPatch.context() as patch, connected(folder, patch) as hub:
    hub.put('model', DEBERTA, repositories.deberta(folder / 'deberta'))
    hub.put('model', QWEN, repositories.qwen(folder / 'qwen'))
    hub.put('dataset', 'nyu-mll/glue', repositories.glue())
    hub.put('dataset', 'rajpurkar/squad', repositories.squad(1))
    hub.put('dataset', 'rajpurkar/squad_v2', repositories.squad(2))
    hub.put('dataset', 'someuser/opinions', repositories.opinions(16))
    yield hub


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_trains_and_evaluates_to_what_it_reported(name, hub, tmp_path, capsys):
  config = values(name)
  call_train(config, tmp_path / 'run')
  result = read_json(tmp_path / 'run' / 'result.json')
  found = call('eval', capsys, tmp_path / 'run', checkpoint='latest')
  assert found == {'checkpoint': 'latest', 'round': 3, **result['last']['metrics']}


def call_train(config, workdir, **options):
  from adapad_jax.commands import Request, registry
  from tests.commands.exchange import DEFAULTS

  registry.run('train', Request(config, workdir, DEFAULTS | options))
