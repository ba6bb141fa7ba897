"""Every official task from its files to its report, evaluation and predictions."""

import json

import pytest

from adapad_jax.commands import Request, registry
from adapad_jax.files import read_json
from adapad_jax.tasks.glue import TASKS
from tests import tiny
from tests.commands.exchange import DEFAULTS
from tests.tasks import official

SQUAD = ('squad', 'squad_v2')
STEPS = 3


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  return tiny.make_model(tmp_path_factory.mktemp('model'))


def config_of(name, folder, model):
  """A run of three rounds whose compiled programs the tasks of one head share."""
  is_squad = name in SQUAD
  write = official.write_squad if is_squad else official.write_glue
  path = write(folder / 'data', name)
  data = {'task': name, 'path': path, 'max_length': 32 if is_squad else 16}
  if is_squad:
    data['qa'] = {'overlap': 4, 'max_question': 8}
  return tiny.values(
    folder,
    data=data,
    model={'source': model},
    adapter={'targets': ('query',)},
    train={'batch': 4, 'steps': STEPS, 'eval_batch': 8, 'evaluations': 1},
    adapad={'budget': 2, 'r_max': 1, 'grants_per_event': 1, 'start': 1, 'interval': 1},
  )


def ask(capsys, mode, workdir, config=None, **options):
  """Runs a mode in this process; gives what it printed."""
  capsys.readouterr()
  registry.run(mode, Request(config, workdir, DEFAULTS | options))
  return capsys.readouterr().out


def check_states(result, held):
  """The best state, the last and the baseline have the same metrics of all splits."""
  states = ('best', 'last', 'baseline')
  best, last, baseline = (result[state]['metrics'] for state in states)
  assert set(best) == set(last) == set(baseline)
  assert result['metric'] in best
  assert len(best) % held == 0


@pytest.mark.parametrize('name', [*TASKS, *SQUAD])
def test_from_files_to_predictions(name, model, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr('adapad_jax.report.theme._DPI', 20)  # Most of its time is ink.
  workdir = tmp_path / 'run'
  shown = ask(capsys, 'train', workdir, config_of(name, tmp_path, model))
  result = read_json(workdir / 'result.json')
  check_states(result, 2 if name == 'mnli' else 1)
  assert result['task'] == name and result['rounds'] == STEPS
  for metric in result['best']['metrics']:
    assert metric in shown
  # The summary is shown again from the file, where NaN has become null.
  assert ask(capsys, 'train', workdir).count('baseline: ') == 1
  page = (workdir / 'report.html').read_text()
  for metric in result['best']['metrics']:
    assert f'>{metric}</th>' in page
  line = ask(capsys, 'eval', workdir, checkpoint='latest').splitlines()[-1]
  here = {'checkpoint': 'latest', 'round': STEPS}
  assert json.loads(line) == here | result['last']['metrics']
  check_predictions(name, workdir, tmp_path / 'data', capsys)


def check_predictions(name, workdir, folder, capsys):
  """Of every unlabelled split, or of questions, one prediction each."""
  if name in SQUAD:
    version = 'v1.1' if name == 'squad' else 'v2.0'
    asked = folder / f'dev-{version}.json'
    ask(capsys, 'predict', workdir, input=str(asked))
    articles = read_json(asked)['data']
    ids = {q['id'] for a in articles for q in a['paragraphs'][0]['qas']}
    assert set(read_json(workdir / f'predictions-dev-{version}.json')) == ids
    return
  glue = TASKS[name]
  for split in (s for s in glue.files if s.startswith('test')):
    ask(capsys, 'predict', workdir, split=split)
    lines = (workdir / f'predictions-{split}.tsv').read_text().splitlines()
    assert lines[0] == 'index\tprediction'
    assert len(lines) == 1 + official.TEST_ROWS
    if glue.labels:
      assert {line.split('\t')[1] for line in lines[1:]} <= set(glue.labels)
