"""Instruction tuning with all that training offers: methods, meshes, restarts."""

import json
import os
import re
import shutil
import signal

import jax
import numpy as np
import pytest

from adapad_jax.commands import Request, registry
from adapad_jax.files import read_json
from adapad_jax.methods import METHODS
from adapad_jax.settings import as_dict, build
from adapad_jax.tasks.facts import Facts, Unavailable
from adapad_jax.training import Interrupted, finetune_config, make_plan, train
from adapad_jax.training.completions import Decoding, complete
from adapad_jax.training.evaluate import make_evaluator
from adapad_jax.training.logs import RunLog
from adapad_jax.training.saved import restore
from adapad_jax.training.talk import Talker
from adapad_jax.workdir import read_lines
from tests import tiny_chat
from tests.commands.exchange import DEFAULTS, call
from tests.tasks.sft import toy
from tests.training.processes_test import ends, start
from tests.training.train_test import assert_same, final_state

SPOKEN = {'generation': {'samples': 1, 'max_new_tokens': 4}}
SHORT = {'batch': 8, 'steps': 6, 'evaluations': 1}


def run(folder, workdir, **groups):
  return train(finetune_config(tiny_chat.values(folder, **groups)), workdir)


def config_of(method):
  """Settings with which six batches are enough."""
  grown = {'r_max': 2, 'budget': 16, 'start': 1, 'interval': 1, 'grants_per_event': 2}
  # What these compile grows with the modules; two of a layer are enough.
  few = {'adapter': {'targets': ('q_proj', 'v_proj')}}
  return {
    'adapad': {'adapad': grown},
    'adalora': few,
    'increlora': few,
  }.get(method, {})


# A language model has no head of its own to train.
@pytest.mark.parametrize('method', [name for name in METHODS if name != 'head'])
def test_every_method_learns_answers(chat_folder, tmp_path, method):
  groups = {'train': SHORT | {'steps': 24}}
  if method == 'full':
    groups['optimizer'] = {'learning_rate': 5e-3, 'warmup': 0.0}
  groups |= config_of(method)
  result = run(chat_folder, tmp_path, method=method, **groups)
  metrics = result['last']['metrics']
  assert metrics['loss'] < result['baseline']['metrics']['loss'] + 3
  losses = [
    line['train/loss']
    for line in read_lines(tmp_path / 'metrics.jsonl')
    if 'train/loss' in line
  ]
  assert losses[-1] < losses[0]


@pytest.mark.parametrize(
  ('feeding', 'packing'), [('split', True), ('replicate', False), ('federated', True)]
)
def test_every_feeding_learns_answers(chat_folder, tmp_path, feeding, packing):
  rounds = {
    'feeding': feeding,
    **({'local_steps': 2} if feeding == 'federated' else {}),
  }
  adapad = {
    'r_max': 2,
    'budget': 16,
    'start': 1,
    'interval': 1,
    'grants_per_event': 2,
  } | rounds
  packed = {'packing': packing, 'batch': 4 if packing else 8}
  groups = {'adapad': adapad, 'train': SHORT | {'steps': 24} | packed}
  result = run(chat_folder, tmp_path, **groups)
  assert result['last']['metrics']['loss'] < result['prefixes'][0] - 0.2


@pytest.mark.parametrize('data', [{}, {'chat': 'packed'}], ids=['rows', 'packed'])
def test_an_interrupted_run_goes_on_bit_for_bit(
  chat_folder, tmp_path, monkeypatch, data
):
  packed = {'packing': True, 'batch': 4} if data else {}
  groups = {
    'data': SPOKEN,
    'train': {'batch': 8, 'steps': 12, 'evaluations': 4, 'log_every': 1} | packed,
  }
  whole = run(chat_folder, tmp_path / 'whole', **groups)
  wanted, before = 6, RunLog.samples

  def stop(log, step, samples):
    before(log, step, samples)
    if step == wanted:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(RunLog, 'samples', stop)
    with pytest.raises(Interrupted, match='SIGTERM: saved after round'):
      run(chat_folder, tmp_path / 'parts', **groups)
  assert not (tmp_path / 'parts' / 'result.json').exists()
  got = run(chat_folder, tmp_path / 'parts', **groups)
  for name in ('best', 'last', 'prefixes', 'prefix_metrics', 'prefix_samples', 'ranks'):
    assert got[name] == whole[name]
  values = tiny_chat.values(chat_folder, **groups)
  states = [final_state(values, tmp_path / name)[1] for name in ('parts', 'whole')]
  assert_same(*states)
  logs = [(tmp_path / n / 'samples.jsonl').read_text() for n in ('parts', 'whole')]
  assert logs[0] == logs[1] and logs[0].count('\n') == 4


MESHES = [(1, 1, 4), (2, 1, 2), (2, 2, 1)]


@pytest.fixture(scope='module')
def alone(chat_folder, tmp_path_factory):
  """A run on one device, and what it answers."""
  workdir = tmp_path_factory.mktemp('alone')
  result = run(chat_folder, workdir, data=SPOKEN, train=SHORT)
  return workdir, result, answers(workdir)


def answers(workdir):
  rows = [('row', {'question': one}) for one, _ in tiny_chat.PAIRS]
  return complete(restore(workdir), rows, Decoding(max_new_tokens=4))['prediction']


@pytest.mark.parametrize('mesh', MESHES)
def test_a_run_and_its_answers_are_the_same_on_every_mesh(
  chat_folder, alone, tmp_path, mesh
):
  axes = dict(zip(('worker', 'data', 'model'), mesh, strict=True))
  result = run(chat_folder, tmp_path, data=SPOKEN, train=SHORT, mesh=axes)
  want = alone[1]
  assert result['mesh'] == axes
  for name in ('loss', 'token_accuracy'):
    assert result['last']['metrics'][name] == pytest.approx(
      want['last']['metrics'][name], rel=1e-4
    )
  assert result['prefix_samples'] == want['prefix_samples']
  assert answers(tmp_path) == alone[2]
  opened = restore(tmp_path)
  chat = opened.plan.task.chat
  for (question, _), text in zip(tiny_chat.PAIRS[:2], alone[2][:2], strict=True):
    prompt, _ = chat.prompt_of_row({'question': question})
    said = Talker(opened, Decoding(max_new_tokens=4)).answer(prompt.ids)
    assert chat.text_of([*said]) == text


@pytest.mark.parametrize('model', [{'scan': False}, {'remat': True}])
def test_other_ways_to_compute_give_the_same_numbers(
  chat_folder, alone, tmp_path, model
):
  result = run(chat_folder, tmp_path, data=SPOKEN, train=SHORT, model=model)
  assert result['last']['metrics'] == pytest.approx(
    alone[1]['last']['metrics'], rel=1e-4
  )


def test_bfloat16_learns_about_the_same(chat_folder, alone, tmp_path):
  model = {'dtype': 'bfloat16', 'remat': True}
  result = run(chat_folder, tmp_path, data=SPOKEN, train=SHORT, model=model)
  loss = alone[1]['last']['metrics']['loss']
  assert result['last']['metrics']['loss'] == pytest.approx(loss, rel=0.05)
  assert len(answers(tmp_path)) == 4


@pytest.mark.slow
def test_two_processes_train_answer_and_predict_as_one(chat_folder, forks, tmp_path):
  values = tiny_chat.values(
    chat_folder, data=SPOKEN, train=SHORT, mesh={'worker': 2, 'data': 2}
  )
  want = train(finetune_config(values), tmp_path / 'one')
  code = (
    'import ml_collections\n'
    'def get_config():\n'
    f'  return ml_collections.ConfigDict({values!r})\n'
  )
  (tmp_path / 'config.py').write_text(code)
  workdir = tmp_path / 'two'
  assert [code for code, *_ in ends(start(forks, 2, tmp_path, workdir))] == [0, 0]
  got = read_json(workdir / 'result.json')
  assert got['processes'] == 2 and got['prefix_samples'] == want['prefix_samples']
  assert got['last']['metrics'] == pytest.approx(want['last']['metrics'], rel=1e-4)
  (tmp_path / 'mine.jsonl').write_text('{"question": "Hi"}\n{"question": "No?"}\n')
  flags = ('--mode=predict', f'--input={tmp_path / "mine.jsonl"}')
  done = ends(start(forks, 2, tmp_path, workdir, *flags, '--max_new_tokens=4'))
  assert [code for code, *_ in done] == [0, 0], done
  rows = (workdir / 'predictions-mine.jsonl').read_text().splitlines()
  asked = [('row', {'question': one}) for one in ('Hi', 'No?')]
  alone = complete(restore(tmp_path / 'one'), asked, Decoding(max_new_tokens=4))
  assert [json.loads(row)['prediction'] for row in rows] == alone['prediction']


def test_an_imported_adapter_answers_the_same_and_trains_on(
  chat_folder, chat_run, tmp_path, capsys
):
  call('export', capsys, chat_run, out=tmp_path / 'adapter')
  config = tiny_chat.values(
    chat_folder,
    data=tiny_chat.LEARNS['data'],
    train={'steps': 60, 'evaluations': 1},
    optimizer={'learning_rate': 0.003},
    adapad={'r_max': 3, 'budget': 24},
  )
  workdir = tmp_path / 'more'
  found = call('import', capsys, workdir, config, adapter=tmp_path / 'adapter')
  best = read_json(chat_run / 'result.json')['best']['metrics']
  assert found['loss'] == pytest.approx(best['loss'], rel=1e-5)
  assert found['exact_match'] == best['exact_match']
  registry.run('train', Request(None, workdir, DEFAULTS))
  result = read_json(workdir / 'result.json')
  assert result['best']['metrics']['loss'] < best['loss']
  assert result['rank_total'] > sum(restore(chat_run).adapter.ranks.values())


@pytest.fixture
def copied(chat_folder, chat_run, tmp_path):
  """A run of its own whose files may be changed: its folder, workdir and config."""
  folder = tmp_path / 'data'
  shutil.copytree(chat_folder / 'model', folder / 'model')
  for name in ('train.jsonl', 'held.jsonl'):
    shutil.copy(chat_folder / 'train.jsonl', folder / name)
  (folder / 'mine.jinja').write_text(toy.CHATML)
  groups = {
    'data': {
      'holdout': 0.0,
      'validation': str(folder / 'held.jsonl'),
      'cache': str(folder / 'cache'),
      'chat': {'template': str(folder / 'mine.jinja')},
    },
    'train': SHORT | {'steps': 1},
    'method': 'lora',
  }
  values = tiny_chat.values(folder, **groups)
  workdir = tmp_path / 'run'
  train(finetune_config(values), workdir)
  return folder, workdir, values


def test_a_run_knows_its_files_and_opens_without_its_data(copied, capsys):
  folder, workdir, values = copied
  record = read_json(workdir / 'run.json')
  sources = record['data']['sources']
  assert set(sources) == {'train', 'validation', 'chat template'}
  assert sources['train']['rows'] == 64 and record['train_rows'] == 64
  facts = build(Facts, record['data'])
  assert as_dict(facts) == record['data'] and facts.splits['validation'] == 64
  measured = restore(workdir).evaluate()
  for name in ('train.jsonl', 'held.jsonl'):
    (folder / name).rename(folder / f'{name}.away')
  opened = restore(workdir)
  assert opened.predict([{'question': 'Hi'}])[0]['index'] == 0
  assert opened.plan.task.baseline.metrics['loss'] > 0
  with pytest.raises(Unavailable, match='held.jsonl, the validation data of this run'):
    opened.evaluate()
  found = call('export', capsys, workdir, out=folder / 'adapter')
  assert found['loss'] == pytest.approx(measured['loss'])
  template = (folder / 'adapter' / 'chat_template.jinja').read_text()
  assert template == toy.CHATML


def test_a_run_with_columns_of_its_own_is_exported_without_its_data(
  chat_folder, tmp_path, capsys
):
  sides = lambda pair: zip(('user', 'assistant'), pair, strict=True)
  chats = [
    {'chat': [{'role': role, 'content': text} for role, text in sides(pair)]}
    for pair in tiny_chat.PAIRS * 4
  ]
  file = tmp_path / 'mine.jsonl'
  data = {'train': toy.write_rows(file, chats), 'messages': 'chat'}
  short = {'train': SHORT | {'steps': 1}, 'method': 'lora'}
  run(chat_folder, tmp_path / 'run', data=data, **short)
  file.unlink()
  found = call('export', capsys, tmp_path / 'run', out=tmp_path / 'adapter')
  assert found['logit_gap'] < 1e-4 and found['loss'] > 0


@pytest.mark.parametrize(
  ('name', 'match'),
  [
    ('train.jsonl', r'the train data: .*train.jsonl has changed \(\d+ bytes then'),
    ('mine.jinja', 'the chat template data: .*mine.jinja has changed'),
  ],
)
def test_going_on_with_changed_files_is_refused(copied, name, match):
  folder, workdir, values = copied
  (folder / name).write_text((folder / name).read_text() + '\n')
  (workdir / 'result.json').unlink()
  with pytest.raises(ValueError, match=match):
    train(finetune_config(values), workdir)


def test_a_changed_template_or_validation_file_is_noticed_when_it_is_used(copied):
  folder, workdir, _ = copied
  opened = restore(workdir)
  with (folder / 'held.jsonl').open('a') as file:
    file.write('{"question": "Hi", "answer": "No"}\n')
  with pytest.raises(Unavailable, match='has changed since the run began'):
    opened.evaluate()
  (folder / 'mine.jinja').write_text(toy.CHATML + ' ')
  with pytest.raises(
    Unavailable, match=r'mine.jinja, the chat template of this run.*put it back$'
  ):
    restore(workdir)


def test_a_run_watches_what_it_generates_too(chat_folder):
  values = tiny_chat.values(chat_folder, **tiny_chat.LEARNS)
  plan = make_plan(finetune_config(values))
  whole = plan.task, plan.attachment, plan.modules, plan.mesh
  evaluator = make_evaluator(*whole, batch=8, watchdog=60)
  assert evaluator.generator.watchdog is evaluator.watchdog


def test_dry_run_tells_what_is_answered_and_what_memory_that_takes(chat_folder, capsys):
  config = tiny_chat.values(chat_folder, **tiny_chat.LEARNS)
  registry.run('train', Request(config, None, DEFAULTS | {'dry_run': True}))
  out = capsys.readouterr().out
  assert '8 validation rows are answered by up to 8 tokens, scored by exact' in out
  assert re.search(r'memory of a device: .* evaluation [\d,]+', out)


def test_a_plan_of_a_recorded_run_reads_no_rows(copied, monkeypatch):
  _, workdir, values = copied
  from adapad_jax.tasks.sft import source
  from adapad_jax.training.record import read_record

  monkeypatch.setattr(source, 'splits_of', lambda config: pytest.fail('it was read'))
  plan = make_plan(finetune_config(values), read_record(workdir))
  assert plan.train_rows == 64 and list(plan.task.splits) == ['train', 'validation']


def test_ids_of_devices_do_not_matter_to_a_saved_state(alone, chat_folder):
  """Saved on one device, read on four."""
  values = tiny_chat.values(chat_folder, data=SPOKEN, train=SHORT)
  step, one = final_state(values, alone[0])
  other_step, four = final_state(values, alone[0], (2, 2))
  assert step == other_step == 6
  jax.tree.map(np.testing.assert_array_equal, one, four)
