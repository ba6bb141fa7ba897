"""Every recipe of the README that needs the hub, from a cold cache to an export.

Models are tiny but of the right family and in the layout of the public ones.
"""

import pytest

from adapad_jax.commands import Request, registry
from adapad_jax.training import finetune_config, make_plan, train
from configs import glue, squad
from tests.commands.exchange import DEFAULTS
from tests.hub import repositories
from tests.hub.client import connected

DEBERTA, QWEN = 'microsoft/deberta-v3-base', 'Qwen/Qwen3-0.6B'
# A run of seconds; everything else is the recipe's own.
SHORT = {
  'train': {'steps': 2, 'batch': 4, 'evaluations': 1, 'eval_batch': 8, 'buckets': ()},
  'adapad': {'budget': 8, 'r_max': 2, 'start': 1, 'interval': 1, 'grants': 2},
  'mesh': {'worker': 1, 'data': 1},
  'data': {'max_length': 64},
}
OWN = {'data': {'path': 'someuser/opinions'}, 'model': {'source': DEBERTA}}
LONG = {'data': {'max_length': 192}}
RECIPES = {
  'rte': (glue.get_config('rte'), {}),
  'stsb': (glue.get_config('stsb'), {}),
  'mnli': (glue.get_config('mnli'), {}),
  'own': (glue.get_config('classification'), OWN),
  'v1': (squad.get_config('v1'), LONG),
  'v1,encoder': (squad.get_config('v1,encoder'), {}),
  'v2': (squad.get_config('v2'), LONG),
}


def values(name, **changes):
  """The config of a recipe, made short."""
  config, own = RECIPES[name]
  found = config.to_dict()
  for groups in (SHORT, own, changes):
    for group, fields in groups.items():
      found[group] = {**found[group], **SHORT.get(group, {}), **fields}
  for optimizer in ('optimizer', 'head_optimizer'):
    found[optimizer] = {**found[optimizer], 'warmup': 1.0}
  qa = {'overlap': 8, 'max_question': 32, 'max_answer': 4}
  found['data']['qa'] = {**found['data']['qa'], **qa}
  return found


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('hub')


@pytest.fixture(scope='module')
def hub(folder):
  """A hub with all that the recipes ask for, and this process as its client."""
  pytest.importorskip('torch')
  with pytest.MonkeyPatch.context() as patch, connected(folder, patch) as hub:
    hub.put('model', DEBERTA, repositories.deberta(folder / 'deberta'))
    hub.put('model', QWEN, repositories.qwen(folder / 'qwen'))
    hub.put('dataset', 'nyu-mll/glue', repositories.glue())
    hub.put('dataset', 'rajpurkar/squad', repositories.squad(1))
    hub.put('dataset', 'rajpurkar/squad_v2', repositories.squad(2))
    hub.put('dataset', 'someuser/opinions', repositories.opinions(16))
    yield hub


def test_nothing_is_downloaded_that_does_not_fit(hub, capsys):
  for changes, match in (
    ({'adapter': {'targets': ('qurey',)}}, "target pattern 'qurey' matches no"),
    ({'data': {'max_length': 4096}}, 'above the model'),
  ):
    with pytest.raises(ValueError, match=match):
      make_plan(finetune_config(values('rte', **changes)))
    assert not any('/datasets/' in request for request in hub.asked)
  capsys.readouterr()
  call_train(values('rte'), None, dry_run=True)
  out = capsys.readouterr().out
  commit = hub.repository('model', DEBERTA).branches['main']
  size = len(hub.repository('model', DEBERTA).commits[commit]['pytorch_model.bin'])
  assert f'tokenizer: {DEBERTA} at commit {commit[:12]} of main, on the hub' in out
  assert f'to download: pytorch_model.bin ({size / 1e6:,.1f} MB)' in out
  assert 'data: nyu-mll/glue at commit ' in out
  assert not any('pytorch_model' in request for request in hub.asked)
  assert not any('/mnli/' in request for request in hub.asked)


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_trains_to_a_result(name, hub, folder):
  result = train(finetune_config(values(name)), folder / name)
  assert result['rounds'] == 2 and result['last']['metrics'][result['metric']] >= -1
  task = finetune_config(values(name)).data.task
  metrics = {
    'stsb': {'pearson', 'spearmanr', 'combined_score'},
    'mnli': {'accuracy', 'accuracy_mm'},
    'squad': {'exact_match', 'f1'},
  }.get(task, set())
  assert metrics <= set(result['last']['metrics'])
  names = {'model': DEBERTA if task != 'squad_v2' and name != 'v1' else QWEN}
  assert result['commits']['model']['repo'] == names['model']
  for kind, key in (('model', names['model']), ('dataset', None)):
    one = result['commits']['model' if kind == 'model' else 'data']
    repository = hub.repository(kind, key or one['repo'])
    assert one['commit'] == repository.branches['main']


def call_train(config, workdir, **options):
  registry.run('train', Request(config, workdir, DEFAULTS | options))
