"""What a run answers to prompts: against transformers, its cuts, draws and refusals."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from adapad_jax.commands import Request, registry
from adapad_jax.files import read_json
from adapad_jax.models.generation import Sampling
from adapad_jax.tasks.config import GenerationConfig
from adapad_jax.tasks.sft.chat import Chat
from adapad_jax.training.completions import Decoding, complete
from adapad_jax.training.saved import restore
from adapad_jax.training.talk import CHUNKS, Full, Stream, Talker
from tests import tiny_chat
from tests.commands.exchange import DEFAULTS, call
from tests.tasks.sft import toy

QUESTIONS = [one for one, _ in tiny_chat.PAIRS]
ROWS = [{'question': one} for one in QUESTIONS]
GREEDY = Decoding(max_new_tokens=8)


@pytest.fixture(scope='module')
def run(chat_run):
  return restore(chat_run)


def answers(run, rows=ROWS, decoding=GREEDY, **cut):
  return complete(run, [(f'row {i}', x) for i, x in enumerate(rows)], decoding, **cut)


def test_every_evaluation_is_in_the_log_and_every_prefix_in_the_result(chat_run):
  result = read_json(chat_run / 'result.json')
  found = [one['exact_match'] for one in result['prefix_metrics']]
  assert found[0] == 0 and found[-1] > 0.5 and len(found) == 3
  assert result['best']['metrics'] == result['prefix_metrics'][-1]
  assert [len(rows) for rows in result['prefix_samples']] == [2, 2]
  lines = (chat_run / 'samples.jsonl').read_text().splitlines()
  logged = [json.loads(line) for line in lines]
  assert [line['step'] for line in logged] == [30, 60]
  for one in logged[-1]['samples']:
    assert set(one) == {'prompt', 'reference', 'answer', 'right'}
    assert one['right'] == (one['answer'] == one['reference'])
  metrics = [
    json.loads(x) for x in (chat_run / 'metrics.jsonl').read_text().split('\n') if x
  ]
  scored = [line['eval/exact_match'] for line in metrics if 'eval/exact_match' in line]
  assert scored[-1] == result['last']['metrics']['exact_match']


def test_eval_scores_answers_of_validation_data_and_of_a_split(run, chat_run):
  result = read_json(chat_run / 'result.json')
  assert run.evaluate() == result['best']['metrics']
  assert run.evaluate(max_rank=1) == result['prefix_metrics'][1]
  assert run.evaluate('validation') == result['best']['metrics']
  assert run.evaluate('train')['exact_match'] >= 0.5


def test_eval_scores_answers_of_a_file_as_of_a_split(run, chat_folder, tmp_path):
  found = run.evaluate_file(chat_folder / 'train.jsonl')
  kept = [{'question': one, 'answer': two} for one, two in tiny_chat.PAIRS]
  toy.write_rows(tmp_path / 'pairs.jsonl', kept)
  ours = answers(run, kept)
  pairs = run.evaluate_file(tmp_path / 'pairs.jsonl')
  assert found.keys() == pairs.keys() == run.evaluate('train').keys()
  assert pairs['exact_match'] == np.mean(ours['right'])
  cut = answers(run, kept, max_rank=1)
  one = run.evaluate_file(tmp_path / 'pairs.jsonl', max_rank=1)
  assert one['exact_match'] == np.mean(cut['right'])
  toy.write_rows(tmp_path / 'open.jsonl', [{'question': 'Hi', 'answer': 'Hi'}])
  without = run.evaluate_file(tmp_path / 'open.jsonl')
  assert np.isnan(without['exact_match']) and without['loss'] > 0


def test_answers_are_what_transformers_says_after_a_merged_export(
  run, chat_run, tmp_path, capsys
):
  """The same prompts, tokens and ends, from the folder alone."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  out = tmp_path / 'merged'
  call('export', capsys, chat_run, out=out, format='merged')
  tokenizer = transformers.AutoTokenizer.from_pretrained(out)
  model = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
  ours = answers(run)
  for question, text, count in zip(
    QUESTIONS, ours['prediction'], ours['tokens'], strict=True
  ):
    ids = tokenizer.apply_chat_template(
      [{'role': 'user', 'content': question}],
      add_generation_prompt=True,
      return_tensors='pt',
      return_dict=False,
    )
    with torch.no_grad():
      said = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
    assert len(said) == count
    assert tokenizer.decode(said, skip_special_tokens=True) == text


def test_a_peft_export_has_its_tokenizer_template_and_ends(chat_run, tmp_path, capsys):
  transformers = pytest.importorskip('transformers')
  out = tmp_path / 'adapter'
  call('export', capsys, chat_run, out=out, format='peft-uniform')
  tokenizer = transformers.AutoTokenizer.from_pretrained(out)
  assert tokenizer.chat_template == toy.CHATML
  ends = read_json(out / 'generation_config.json')['eos_token_id']
  assert ends == [tokenizer.convert_tokens_to_ids('<|im_end|>')]
  config = read_json(out / 'adapter_config.json')
  assert config['task_type'] == 'CAUSAL_LM' and config['rank_pattern'] == {}
  assert "from_pretrained('path/to/this/folder')" in (out / 'README.md').read_text()


def test_a_cut_answers_like_that_prefix(run, chat_run):
  texts = {rank: answers(run, max_rank=rank)['prediction'] for rank in (1, 2)}
  assert answers(run)['prediction'] == texts[2]
  budget = sum(run.adapter.ranks.values())
  assert answers(run, budget=budget)['prediction'] == texts[2]
  assert texts[1] != texts[2] or run.evaluate(max_rank=1) != run.evaluate()


def test_rows_with_their_last_turn_get_its_loss(run):
  whole = [
    dict(zip(('question', 'answer'), one, strict=True)) for one in tiny_chat.PAIRS
  ]
  cells = answers(run, [*whole, ROWS[0]])
  split = run.plan.task.read(toy.write_rows(run_folder(run) / 'whole.jsonl', whole))
  found = run.outputs(split)
  expected = found['loss_B'] / found['tokens_B']
  np.testing.assert_allclose(cells['loss'][:4], expected, rtol=1e-5)
  assert cells['loss'][4] is None and cells['right'][4] is None
  said = zip(cells['prediction'], tiny_chat.PAIRS, strict=False)
  assert cells['right'][:4] == [text == reference for text, (_, reference) in said]
  assert set(answers(run)) == {'prediction', 'tokens', 'finish', 'final'}


def test_the_loss_of_a_row_is_that_of_its_last_turn(run):
  """As where earlier turns of the assistant are said not to be learned."""
  say = lambda text, **more: {'role': 'assistant', 'content': text, **more}
  hi = {'role': 'user', 'content': 'Hi'}
  every = {'messages': [hi, say('No Yes'), hi, say('Hello')]}
  last = {'messages': [hi, say('No Yes', train=False), hi, say('Hello')]}
  cells = answers(run, [every, last])
  assert cells['loss'][0] == cells['loss'][1]
  assert cells['token_accuracy'][0] == cells['token_accuracy'][1]


def run_folder(run):
  from pathlib import Path

  return Path(run.plan.config.data.cache)


def test_a_draw_follows_from_the_row_and_the_seed_alone(run):
  hot = dataclasses.replace(GREEDY, sampling=Sampling(temperature=2.0), seed=3)
  rows = ROWS * 2
  first = answers(run, rows, hot)['prediction']
  assert first == answers(run, rows, hot)['prediction']
  assert first[:3] == answers(run, rows[:3], hot)['prediction']
  other = dataclasses.replace(hot, seed=4)
  assert first != answers(run, rows, other)['prediction']
  assert first[:4] != first[4:]


def test_an_answer_ends_at_a_stop_text_or_by_its_length(run):
  whole = answers(run)
  assert set(whole['finish']) == {'stop'}
  short = answers(run, decoding=dataclasses.replace(GREEDY, max_new_tokens=1))
  assert short['tokens'] == [1] * 4 and 'length' in short['finish']
  text = next(text for text in whole['prediction'] if len(text) > 2)
  cut = answers(run, decoding=dataclasses.replace(GREEDY, stop=(text[1],)))
  assert text[0] in cut['prediction'] and set(cut['finish']) == {'stop'}
  place = cut['prediction'].index(text[0])
  assert 0 < cut['tokens'][place] < whole['tokens'][place], 'the answer alone counts'


def test_an_answer_ends_at_the_text_that_ends_turns(run, monkeypatch):
  text = next(text for text in answers(run)['prediction'] if len(text) > 2)
  cut = answers(run, decoding=dataclasses.replace(GREEDY, stop=(text[1],)))
  monkeypatch.setattr(Chat, 'stop_texts', (text[1],))
  assert answers(run) == cut


@pytest.mark.parametrize(
  ('row', 'match'),
  [
    ({'title': 'x'}, "row 0: there is nothing to answer: none of .* only .'title'"),
    ({'prompt': ''}, 'row 0: its prompt is empty'),
    ({'question': 'Hi ' * 60}, 'row 0: its prompt has .* the 128 that the model'),
  ],
)
def test_rows_that_cannot_be_answered_are_refused_by_their_place(run, row, match):
  with pytest.raises(ValueError, match=match):
    answers(run, [row])


def test_flags_come_before_the_config():
  config = GenerationConfig(temperature=0.5, top_k=3, stop=('x',))
  assert Decoding.of(config, {}) == Decoding(Sampling(0.5, 3, 1.0), 128, ('x',), 0)
  given = {'temperature': 0.2, 'top_p': 0.5, 'stop': ['a', 'b'], 'seed': 7}
  assert Decoding.of(config, given | {'max_new_tokens': 5, 'top_k': None}) == Decoding(
    Sampling(0.2, 3, 0.5), 5, ('a', 'b'), 7
  )
  with pytest.raises(ValueError, match='--max_new_tokens must be at least 1, got 0'):
    Decoding.of(config, {'max_new_tokens': 0})


def test_flags_of_draws_need_a_temperature():
  greedy = GenerationConfig()
  for flag in ({'top_k': 5}, {'top_p': 0.5}):
    with pytest.raises(ValueError, match=f'--{[*flag][0]} .* --temperature above 0'):
      Decoding.of(greedy, flag)
    with pytest.raises(ValueError, match='--temperature above 0'):
      Decoding.of(GenerationConfig(temperature=0.5), flag | {'temperature': 0.0})
    assert Decoding.of(greedy, flag | {'temperature': 0.5}).sampling.temperature == 0.5
  assert Decoding.of(greedy, {'top_k': 0, 'top_p': 1.0, 'seed': 3}).seed == 3


def predict(workdir, **options):
  registry.run('predict', Request(None, workdir, DEFAULTS | options))


def test_predict_writes_answers_for_files_and_splits(run, chat_run, tmp_path, capsys):
  path = toy.write_rows(tmp_path / 'mine.jsonl', ROWS)
  output = tmp_path / 'answers.jsonl'
  predict(chat_run, input=path, output=str(output), max_rank=1, max_new_tokens=6)
  rows = [json.loads(line) for line in output.read_text().splitlines()]
  cells = answers(run, decoding=Decoding(max_new_tokens=6), max_rank=1)
  assert [row['prediction'] for row in rows] == cells['prediction']
  assert [(row['index'], row['row']) for row in rows] == [(i, i + 1) for i in range(4)]
  assert run.predict(ROWS, max_rank=1)[2]['prediction'] == cells['prediction'][2]
  output = tmp_path / 'held.csv'
  predict(chat_run, split='validation', output=str(output))
  header, *lines = output.read_text().splitlines()
  assert len(lines) == 8 and 'loss' in header and 'right' in header
  assert '8 predictions in' in capsys.readouterr().out


def test_other_tasks_do_not_draw(data, tmp_path):
  from adapad_jax.training import finetune_config, train
  from tests import tiny

  config = tiny.values(data, method='head', train={'steps': 1, 'evaluations': 1})
  train(finetune_config(config), tmp_path)
  mine = str(data / 'validation.csv')
  with pytest.raises(ValueError, match="--top_k is for runs of task 'sft'.*'classif"):
    predict(tmp_path, input=mine, top_k=2)
  with pytest.raises(ValueError, match="task 'classification'; --mode=chat talks"):
    registry.run('chat', Request(None, tmp_path, DEFAULTS))


@pytest.fixture(scope='module')
def talker(run):
  return Talker(run, GREEDY)


def said_by(talker, run, *messages):
  chat = run.plan.task.chat
  from adapad_jax.tasks.sft.conversation import Conversation

  turns = [
    {'role': ('user', 'assistant')[i % 2], 'content': text}
    for i, text in enumerate(messages)
  ]
  return [*talker.answer(chat.ask(Conversation(messages=tuple(turns))).ids)]


def batch_says(run, *messages, **cut):
  roles = ('user', 'assistant')
  row = {
    'messages': [{'role': roles[i % 2], 'content': x} for i, x in enumerate(messages)]
  }
  return answers(run, [row], **cut)['prediction'][0]


def test_a_talk_says_what_batches_say_and_switches_ranks_without_compiling(run, talker):
  """Over turns, longer ones than a chunk, back at an earlier place, at every rank."""
  text = lambda tokens: run.plan.task.chat.text_of(tokens)
  talks = [
    ('Hi',),
    ('Hi', 'Hello', 'No?'),
    ('Hi', 'Hello', 'Yes?'),
    ('Hi Hi Hi Hi', 'Hello', 'Hi'),
    ('Yes?',),
  ]
  for rank in (0, 1, 2, 0):
    talker.use(rank)
    for talk in talks:
      said = text(said_by(talker, run, *talk))
      assert said == batch_says(run, *talk, max_rank=rank), (rank, talk)
  assert 2 <= talker._hear._cache_size() <= len(CHUNKS)


def test_a_talk_that_is_left_in_the_middle_goes_on_rightly(run, talker):
  talker.use(0)
  whole = said_by(talker, run, 'Hi Hi')
  chat = run.plan.task.chat
  prompt = chat.prompt_of_row({'question': 'Hi Hi'})[0]
  next(talker.answer(prompt.ids))
  assert said_by(talker, run, 'Hi Hi') == whole


def test_a_talk_without_room_says_so_and_a_negative_rank_is_refused(run, talker):
  with pytest.raises(Full, match='has 200 tokens, and there is room for 128'):
    next(talker.answer([1] * 200))
  # What just fits is answered until the room is used up.
  assert len([*talker.answer([1] * (talker.room - 1))]) == 1
  with pytest.raises(ValueError, match='--max_rank must be at least 1'):
    talker.use(-1)


def test_drawn_talks_differ_by_turn_and_not_by_start(run):
  hot = dataclasses.replace(GREEDY, sampling=Sampling(temperature=2.0), seed=1)
  first = Talker(run, hot)
  told = [said_by(first, run, 'Hi') for _ in range(3)]
  assert len({tuple(one) for one in told}) > 1
  assert [said_by(Talker(run, hot), run, 'Hi')] == told[:1]


def streamed(tokens, text, stop=()):
  stream = Stream(functools.partial(tokens.decode, skip_special_tokens=True), stop)
  parts = []
  for token in tokens(text)['input_ids']:
    parts.append(stream.push(token))
    if stream.ended:
      break
  parts.append(stream.flush())
  assert ''.join(parts) == stream.text
  return parts


@pytest.mark.parametrize('text', ['é 日本 👍🏽 Hi\n\nNo', 'Hi', 'a\ufffdb'])
def test_a_stream_gives_whole_characters_and_all_of_them(text):
  """The tokenizer has a token for every byte, so characters come in parts."""
  parts = streamed(toy.tokenizer(), text)
  assert ''.join(parts) == text
  assert all('\ufffd' not in part for part in parts) or '\ufffd' in text
  assert len(parts) > 2 or text == 'Hi'


def test_a_stream_with_a_sentencepiece_tokenizer_keeps_its_blanks(shared):
  transformers = pytest.importorskip('transformers')
  folder = shared / 'models' / 'stories260k'
  tokens = transformers.AutoTokenizer.from_pretrained(str(folder))
  text = 'Once upon a time, there was a café.\nThe end. 日本'
  ids = tokens(text, add_special_tokens=False)['input_ids']
  stream = Stream(functools.partial(tokens.decode, skip_special_tokens=True))
  parts = [stream.push(token) for token in ids] + [stream.flush()]
  assert ''.join(parts) == tokens.decode(ids) and all('\ufffd' not in p for p in parts)


def test_a_stream_never_shows_a_stop_text_nor_a_part_of_it():
  tokens = toy.tokenizer()
  parts = streamed(tokens, 'one END two', ('END',))
  assert ''.join(parts) == 'one ' and 'E' not in ''.join(parts)
  assert ''.join(streamed(tokens, 'one EN', ('END',))) == 'one EN'
  assert ''.join(streamed(tokens, 'aab', ('ab',))) == 'a'


def test_a_part_of_a_character_at_the_end_is_shown_as_such():
  tokens = toy.tokenizer()
  stream = Stream(tokens.decode)
  assert stream.push(tokens('é')['input_ids'][0]) == ''
  assert stream.flush() == stream.text == '\ufffd'


def test_a_report_shows_answers_and_exact_match_by_prefix(chat_run):
  from adapad_jax.report import tables
  from adapad_jax.report.run import read_run

  shown = tables.samples(read_run(chat_run))
  result = read_json(chat_run / 'result.json')
  assert 'answers after round 60' in shown and '<th scope="col">reference</th>' in shown
  for one in result['prefix_metrics']:
    assert f'>{one["exact_match"]:.4g}</td>' in shown
  assert '--mode=chat' in tables.commands(read_run(chat_run))
