"""Every recipe of the README that needs the hub, from a cold cache to an export.

Models are tiny but of the right family and in the layout of the public ones.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from adapad_jax.commands import Request, registry
from adapad_jax.files import read_json
from adapad_jax.training import finetune_config, make_plan, train
from configs import glue, squad
from tests.commands.exchange import DEFAULTS, call
from tests.hub import repositories
from tests.hub.client import connected

ROOT = pathlib.Path(__file__).parents[2]
DEBERTA, QWEN = 'microsoft/deberta-v3-base', 'Qwen/Qwen3-0.6B'
# A run of seconds; everything else is the recipe's own.
SHORT = {
  'train': {'steps': 2, 'batch': 4, 'evaluations': 1, 'eval_batch': 8, 'buckets': ()},
  'adapad': {'budget': 8, 'r_max': 2, 'start': 1, 'interval': 1, 'grants_per_event': 2},
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
  if found['data']['task'].startswith('squad'):
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
  assert result['rounds'] == 2
  # Correlations are -1 at least, shares in percent 100 at most; NaN is neither.
  assert -1 <= result['last']['metrics'][result['metric']] <= 100
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


@pytest.fixture(scope='module')
def trained(hub, folder):
  """The run of the first recipe, and what it predicts, before anybody pushes."""
  workdir = folder / 'rte'
  if not (workdir / 'result.json').is_file():
    train(finetune_config(values('rte')), workdir)
  return workdir


def upset(hub):
  """Pushes another model and other data under the same names."""
  for kind, name in (('model', DEBERTA), ('dataset', 'nyu-mll/glue')):
    repository = hub.repository(kind, name)
    files = dict(repository.commits[repository.branches['main']])
    files = {n: d for n, d in files.items() if not n.endswith(('.bin', '.parquet'))}
    hub.put(kind, name, files | {'config.json': b'{"model_type": "bert"}'})


def predictions(workdir, source, capsys):
  output = workdir / 'out.csv'
  options = {'input': str(source), 'output': str(output), 'overwrite': True}
  registry.run('predict', Request(None, workdir, DEFAULTS | options))
  capsys.readouterr()
  return output.read_text()


def test_a_run_stays_with_its_commits_whatever_is_pushed(
  hub, folder, trained, tmp_path, capsys
):
  source = tmp_path / 'mine.csv'
  source.write_text('sentence1,sentence2\nA small dog ran.,It was gone.\n')
  first = predictions(trained, source, capsys)
  evaluated = call('eval', capsys, trained)
  branches = [hub.repository(*key).branches for key in hub.repositories]
  before = [dict(one) for one in branches]
  upset(hub)
  hub.asked.clear()
  try:
    assert predictions(trained, source, capsys) == first
    assert call('eval', capsys, trained) == evaluated
    out = tmp_path / 'adapter'
    call('export', capsys, trained, out=out)
    # Going on is the same run too: it is finished, and says so.
    call_train(values('rte'), trained)
    assert 'holds a finished run' in capsys.readouterr().out
    registry.run('info', Request(None, trained, DEFAULTS))
    commits = json.loads(capsys.readouterr().out)['commits']
    assert commits == read_json(trained / 'result.json')['commits']
    assert [r for r in hub.asked if 'agent-harnesses' not in r] == []
    with pytest.raises(ValueError, match='bert. lacks'):
      make_plan(finetune_config(values('rte')))
  finally:
    for one, then in zip(branches, before, strict=True):
      one.update(then)
  commit = commits['model']['commit']
  assert read_json(out / 'adapter_config.json')['revision'] == commit
  card = (out / 'README.md').read_text()
  assert f'at commit `{commit}`' in card and f'revision={commit!r}' in card
  assert "dtype='float32'" in card
  assert out.stat().st_mode & 0o777 == 0o777 & ~umask()
  for path in out.iterdir():
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask(), path


def umask():
  now = os.umask(0)
  os.umask(now)
  return now


def test_chats_of_the_hub_stay_at_their_commit(hub, folder, capsys):
  """Data by subset and revision, answers without another request, a changed branch."""
  columns = {
    'question': [f'Where is {i}?' for i in range(24)],
    'answer': [f'It is here.\n#### {i}' for i in range(24)],
  }
  splits = {name: (columns, None) for name in ('train', 'test')}
  hub.put('dataset', 'openai/gsm8k', repositories.data_set({'main': splits}))
  chats = {'path': 'openai/gsm8k', 'subset': 'main', 'task': 'sft', 'max_length': 96}
  chats |= {'cache': str(folder / 'tokens')}
  chats['generation'] = {'answer': 'hashes', 'scored': 2, 'max_new_tokens': 3}
  config = {
    'data': chats,
    'model': {'source': QWEN, 'dtype': 'bfloat16', 'scan': True},
    **{name: SHORT[name] for name in ('train', 'adapad', 'mesh')},
  }
  workdir = folder / 'chats'
  result = train(finetune_config(config), workdir)
  repository = hub.repository('dataset', 'openai/gsm8k')
  commit = repository.branches['main']
  assert result['commits']['data']['commit'] == commit
  assert 'exact_match' in result['last']['metrics']
  record = read_json(workdir / 'run.json')['data']
  assert record['hub']['commit'] == commit and record['sources']['train']['rows'] == 24
  other = {'question': ['Who?'] * 24, 'answer': ['#### 1'] * 24}
  splits = {name: (other, None) for name in ('train', 'test')}
  hub.put('dataset', 'openai/gsm8k', repositories.data_set({'main': splits}))
  assert repository.branches['main'] != commit
  hub.asked.clear()
  options = {'split': 'test', 'output': str(folder / 'said.jsonl')}
  registry.run('predict', Request(None, workdir, DEFAULTS | options))
  rows = [json.loads(x) for x in (folder / 'said.jsonl').read_text().splitlines()]
  assert len(rows) == 24 and not any('gsm8k' in request for request in hub.asked)
  found = call('eval', capsys, workdir)
  assert found['loss'] == result['best']['metrics']['loss']
  # A new start of the same command goes on with the commit that it began with.
  (workdir / 'result.json').unlink()
  assert train(finetune_config(config), workdir)['last'] == result['last']
  with pytest.raises(ValueError, match='data.path=openai/gsm8k and data.subset=main'):
    wrong = config | {'data': chats | {'path': 'openai/gsm8k:main', 'subset': ''}}
    make_plan(finetune_config(wrong))


# The library hands its HTTP client small files in a way that this one regrets.
@pytest.mark.filterwarnings('ignore:Use .content=<...>.:DeprecationWarning')
def test_an_adapter_goes_to_the_hub_and_comes_back(
  hub, trained, tmp_path, capsys, monkeypatch
):
  push = {'repo': 'owner/rte-adapter', 'max_rank': 1}
  with pytest.raises(ValueError, match='writing needs a token: run `hf auth login`'):
    call('push', capsys, trained, **push)
  with pytest.raises(ValueError, match='--base_name=OWNER/NAME says what it is'):
    call('push', capsys, trained, base_name=str(tmp_path), **push)
  # Ids without an owner are of the hub as well, as given or as the run's own.
  config = read_json(trained / 'config.json')
  config['model']['source'] = 'roberta-base'
  (tmp_path / 'config.json').write_text(json.dumps(config))
  (tmp_path / 'roberta-base').mkdir()
  monkeypatch.chdir(tmp_path)  # Of a run, what lies here is not meant.
  for workdir, name in ((trained, 'gpt2'), (tmp_path, '')):
    with pytest.raises(ValueError, match='writing needs a token'):
      call('push', capsys, workdir, base_name=name, **push)
  with pytest.raises(ValueError, match='push needs --repo=OWNER/NAME'):
    call('push', capsys, trained, repo='adapter')
  monkeypatch.setenv('HF_TOKEN', 'hf_wrong')
  with pytest.raises(ValueError, match='the token is not valid'):
    call('push', capsys, trained, **push)
  monkeypatch.setenv('HF_TOKEN', 'hf_stranger')
  with pytest.raises(ValueError, match='access is denied .no right to make'):
    call('push', capsys, trained, **push)
  monkeypatch.setenv('HF_TOKEN', 'hf_owner')
  pushed = call('push', capsys, trained, **push)
  repository = hub.repositories['model', 'owner/rte-adapter']
  first = repository.branches['main']
  assert pushed['url'] == f'{hub.url}/owner/rte-adapter'
  assert repository.readers == {'hf_owner'}  # Private unless asked otherwise.
  assert set(repository.commits[first]) == {
    '.gitattributes',
    'README.md',
    'adapad.json',
    'adapter_config.json',
    'adapter_model.safetensors',
    'spm.model',
    'tokenizer_config.json',
  }
  again = call('push', capsys, trained, **(push | {'public': True, 'max_rank': 2}))
  second = repository.branches['main']
  assert first != second and repository.readers == {'hf_owner'}
  # What was pushed first comes back by its commit, and scores as it did.
  config = values('rte')
  adapter = f'owner/rte-adapter@{first}'
  found = call('import', capsys, tmp_path / 'back', config, adapter=adapter)
  name = 'accuracy'
  assert found[name] == pushed[name] and found['parameters'] == pushed['parameters']
  assert again['parameters'] > pushed['parameters']
  options = {'adapter': 'owner/rte-adapter', 'budget': 4, 'out': tmp_path / 'small'}
  assert call('rerank', capsys, None, config, **options)['components'] <= 4


def test_the_program_itself_finds_the_hub_and_fails_in_one_line(hub, tmp_path):
  """As users start it, with nothing of the libraries replaced."""
  own = {'HF_ENDPOINT': hub.url, 'HF_HOME': str(tmp_path), 'HF_HUB_OFFLINE': '0'}
  command = [sys.executable, '-m', 'adapad_jax.main', '--mode=info']
  start = lambda *flags: subprocess.run(
    [*command, '--config=configs/glue.py:rte', *flags],
    env=os.environ | own,
    capture_output=True,
    text=True,
    timeout=300,
    cwd=ROOT,
  )
  done = start()
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)['commits']['model']
  main = hub.repository('model', DEBERTA).branches['main']
  assert found == {'repo': DEBERTA, 'revision': 'main', 'commit': main}
  failed = start('--config.model.source=nobody/nothing')
  assert failed.returncode == 1 and 'Traceback' not in failed.stderr
  (line,) = [x for x in failed.stderr.splitlines() if x.startswith('error: ')]
  assert 'there is none of that name, or it is private' in line
