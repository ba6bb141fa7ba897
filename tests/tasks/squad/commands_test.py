"""SQuAD from config to files through the commands, on models of a few thousand."""

import json
import shutil

import numpy as np
import pytest

from adapad_jax.commands import Request
from adapad_jax.commands.registry import run
from adapad_jax.files import read_json
from adapad_jax.models import sources
from configs import squad
from tests.commands.exchange import DEFAULTS
from tests.tasks.squad.toy import write_toy

OPTIONS = DEFAULTS | {'checkpoint': 'latest'}
TINY_BERT = {
  'model_type': 'bert',
  'vocab_size': 30522,
  'hidden_size': 16,
  'num_hidden_layers': 1,
  'num_attention_heads': 2,
  'intermediate_size': 32,
  'max_position_embeddings': 128,
  'type_vocab_size': 2,
}

# Of Qwen3-0.6B, with its vocabulary and fewer, narrower layers.
TINY_QWEN3 = {
  'model_type': 'qwen3',
  'vocab_size': 151936,
  'hidden_size': 16,
  'intermediate_size': 32,
  'num_hidden_layers': 2,
  'num_attention_heads': 2,
  'num_key_value_heads': 1,
  'head_dim': 8,
  'max_position_embeddings': 512,
  'rope_theta': 1000000,
  'rms_norm_eps': 1e-6,
  'tie_word_embeddings': True,
}


def config_of(arg, folder, source, **data):
  config = squad.get_config(arg)
  train, held = write_toy(folder, unanswerable=arg.startswith('v2'))
  config.data.update(train=train, validation=held, **data)
  config.model.update(source=source, random_weights=True, dtype='float32')
  config.model.update(scan=False, remat=False)
  config.adapter.targets = ('query', 'value') if 'minilm' in arg else ('q', 'v')
  config.adapad.update(r_max=2, grants_per_event=10, joint=0.5)
  config.mesh.update(worker=1, data=1)
  config.train.update(batch=4, steps=6, eval_batch=4, evaluations=1, log_every=1)
  return config.to_dict()


def run_all(tmp_path, config):
  """Trains, then answers a question; gives the result, the answers and the workdir."""
  workdir = tmp_path / 'run'
  run('train', Request(config, workdir, OPTIONS))
  mine = tmp_path / 'mine.json'
  asked = [
    {'id': 'a', 'question': 'Where does Fay live?', 'context': 'Fay is in Rome.'}
  ]
  mine.write_text(json.dumps(asked))
  run('predict', Request(None, workdir, OPTIONS | {'input': str(mine)}))
  answers = read_json(workdir / 'predictions-mine.json')
  return read_json(workdir / 'result.json'), answers, workdir


@pytest.fixture(scope='module')
def tiny_bert(tmp_path_factory):
  """A folder with MiniLM's tokenizer and the config of a tiny model."""
  try:
    package = sources.resolve(squad.MINILM, weights=False)
  except ValueError as error:
    pytest.skip(str(error))
  source = tmp_path_factory.mktemp('tiny_bert')
  for name in ('tokenizer.json', 'tokenizer_config.json', 'vocab.txt'):
    shutil.copy(package / name, source / name)
  (source / 'config.json').write_text(json.dumps(TINY_BERT))
  return str(source)


@pytest.fixture(scope='module')
def tiny_qwen3(tmp_path_factory, shared):
  """A folder with Qwen3's tokenizer and the config of a tiny model."""
  source = tmp_path_factory.mktemp('tiny_qwen3')
  for path in (shared / 'models' / 'qwen3-tokenizer').glob('tokenizer*.json'):
    shutil.copy(path, source / path.name)
  (source / 'config.json').write_text(json.dumps(TINY_QWEN3))
  return str(source)


def assert_eval_prints(capsys, workdir, result):
  """`--mode=eval` gives what training has reported."""
  capsys.readouterr()
  run('eval', Request(None, workdir, OPTIONS))
  printed = json.loads(capsys.readouterr().out.splitlines()[-1])
  last = result['last']
  assert printed == {'checkpoint': 'latest', 'round': last['step'], **last['metrics']}


@pytest.mark.slow
def test_marked_spans(tmp_path, tiny_bert, capsys):
  data = {'max_length': 96, 'qa': {'overlap': 8, 'max_question': 16}}
  config = config_of('v2,minilm', tmp_path, tiny_bert, **data)
  result, answers, workdir = run_all(tmp_path, config)
  assert result['metric'] == 'f1' and result['last']['metrics']['total'] == 6.0
  assert result['head_parameters'] == 2 * 16 + 2
  assert answers['a'] in 'Fay is in Rome.'
  odds = read_json(workdir / 'null_odds-mine.json')['a']
  assert (answers['a'] == '') == (odds > 0)
  best = read_json(workdir / 'nbest_predictions-mine.json')['a']
  assert sum(c['probability'] for c in best) == pytest.approx(1.0)
  assert_eval_prints(capsys, workdir, result)


@pytest.mark.slow
def test_marked_spans_of_v1(tmp_path, tiny_bert, capsys):
  data = {'max_length': 96, 'qa': {'overlap': 8, 'max_question': 16}}
  config = config_of('v1,minilm', tmp_path, tiny_bert, **data)
  result, answers, workdir = run_all(tmp_path, config)
  assert set(result['last']['metrics']) == {'exact_match', 'f1'}
  assert answers['a'] and answers['a'] in 'Fay is in Rome.'
  best = read_json(workdir / 'nbest_predictions-mine.json')['a']
  assert best[0]['text'] == answers['a'] and all(c['text'] for c in best)
  assert not (workdir / 'null_odds-mine.json').exists()
  assert_eval_prints(capsys, workdir, result)


@pytest.mark.slow
def test_a_decoder_marks_spans_too(tmp_path, tiny_qwen3, capsys):
  data = {'max_length': 96, 'qa': {'overlap': 8, 'max_question': 16}}
  config = config_of('v2,decoder,span', tmp_path, tiny_qwen3, **data)
  result, answers, workdir = run_all(tmp_path, config)
  assert result['head_parameters'] == 2 * 16 + 2
  assert answers['a'] in 'Fay is in Rome.'
  best = read_json(workdir / 'nbest_predictions-mine.json')['a']
  assert {'start_logit', 'end_logit'} <= set(best[0]) and '' in {
    candidate['text'] for candidate in best
  }
  assert_eval_prints(capsys, workdir, result)


@pytest.mark.slow
def test_generated_answers(tmp_path, shared):
  source = str(shared / 'models' / 'stories260k')
  qa = {'overlap': 16, 'max_question': 48, 'max_answer': 8}
  config = config_of('v2,decoder', tmp_path, source, max_length=320, qa=qa)
  config['model']['random_weights'] = False
  config['train']['steps'] = 18
  result, answers, workdir = run_all(tmp_path, config)
  assert result['head_parameters'] == 0 and 'best_f1' in result['last']['metrics']
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  losses = [json.loads(x)['train/loss'] for x in lines if 'train/loss' in x]
  assert np.mean(losses[-6:]) < np.mean(losses[:6])
  assert set(answers) == {'a'} and '\n' not in answers['a']


@pytest.mark.slow
def test_qwen3_with_its_chat_template(tmp_path, tiny_qwen3, capsys):
  qa = {'overlap': 16, 'max_question': 24, 'max_answer': 6}
  config = config_of('v2,decoder', tmp_path, tiny_qwen3, max_length=160, qa=qa)
  config['model'] |= {'dtype': 'bfloat16', 'scan': True, 'remat': True}
  result, answers, workdir = run_all(tmp_path, config)
  assert result['last']['metrics']['total'] == 6.0 and set(answers) == {'a'}
  assert_eval_prints(capsys, workdir, result)
