"""Answers by generation: prompt, loss on the answer alone, and what was said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.models import load, load_tokenizer
from adapad_jax.tasks import DataConfig, load_task
from adapad_jax.tasks.config import QaConfig
from adapad_jax.tasks.squad.generate import answer_room, decode, no_answer_odds
from adapad_jax.tasks.squad.row_format import prompt_format
from tests.tasks.squad.toy import write_toy

SMALL = QaConfig(answer='generate', overlap=16, max_question=48, max_answer=12)


def toy_task(folder, tokenizer, *, unanswerable, length=320, qa=SMALL):
  folder.mkdir(exist_ok=True)
  train, held = write_toy(folder, unanswerable=unanswerable)
  task = 'squad_v2' if unanswerable else 'squad'
  config = DataConfig(task=task, train=train, validation=held, max_length=length, qa=qa)
  return load_task(config, tokenizer)


@pytest.fixture(scope='module')
def stories(shared):
  return load_tokenizer(str(shared / 'models' / 'stories260k'))


@pytest.fixture(scope='module')
def qwen(shared):
  return load_tokenizer(str(shared / 'models' / 'qwen3-tokenizer'))


@pytest.fixture(scope='module')
def task(tmp_path_factory, stories):
  return toy_task(tmp_path_factory.mktemp('v2'), stories, unanswerable=True)


@pytest.fixture(scope='module')
def model(shared, task):
  return load(str(shared / 'models' / 'stories260k'), task.head).model


@pytest.fixture(scope='module')
def batch(task):
  return {n: jnp.asarray(x) for n, x in task.splits['validation'].columns.items()}


@pytest.fixture(scope='module')
def outputs(task, model, batch):
  predict = jax.jit(lambda batch: task.predict(model, batch))
  return jax.device_get(predict(batch))


@pytest.fixture(scope='module')
def loss(task, model):
  """The loss of rows, and of what a batch is padded with."""
  return jax.jit(lambda batch: task.loss(model, batch, None))


@pytest.fixture(scope='module')
def shares_of(model):
  """Log-probabilities of the next token after each token of one row."""

  @jax.jit
  def shares(ids, mask):
    return jax.nn.log_softmax(model({'ids_BL': ids, 'mask_BL': mask})[0], axis=-1)

  def run(tokens):
    ids = np.zeros((1, 320), np.int32)  # One length, so that it compiles once.
    ids[0, : len(tokens)] = tokens
    return np.asarray(shares(ids, np.arange(320)[None] < len(tokens)))

  return run


def real(ids, mask):
  return np.asarray(ids)[np.asarray(mask) > 0].tolist()


def test_a_prompt_without_a_template(task, stories):
  split = task.splits['train']
  ids = real(split.columns['ids_BL'][0], split.columns['mask_BL'][0])
  prompt = stories.decode(ids, skip_special_tokens=True)
  assert prompt.startswith('Answer the question with words copied from the passage.')
  assert 'no answer there, reply: unanswerable' in prompt
  assert 'Ann lives in Rome. Ben lives in Oslo.' in prompt
  assert 'Where does Ann live?' in prompt and prompt.endswith('Answer:')
  assert ids[0] == stories.bos_token_id and stories.eos_token_id not in ids


def test_a_prompt_in_a_chat_template(tmp_path, qwen):
  task = toy_task(tmp_path, qwen, unanswerable=False)
  columns = task.splits['train'].columns
  prompt = qwen.decode(real(columns['ids_BL'][0], columns['mask_BL'][0]))
  assert prompt == (
    '<|im_start|>user\nAnswer the question with words copied from the passage.\n\n'
    'Passage:\nAnn lives in Rome. Ben lives in Oslo. Cleo lives in Lima. Dora lives in'
    ' Bonn.\n\nQuestion: Where does Ann live?<|im_end|>\n<|im_start|>assistant\n'
    '<think>\n\n</think>\n\n'
  )
  said = real(columns['answer_BA'][0], columns['said_BA'][0])
  assert qwen.decode(said) == 'Rome<|im_end|>'


def test_unanswerable_questions_train_the_reply(task, stories):
  split = task.splits['train']
  columns = split.columns
  for row, number in enumerate(split.host.windows.question_N):
    said = stories.decode(real(columns['answer_BA'][row], columns['said_BA'][row]))
    gold = split.host.questions.golds[number]
    assert said.strip() == f'{gold[0] if gold else "unanswerable"}</s>'


NARROW = QaConfig(answer='generate', overlap=8, max_question=20, max_answer=12)


def narrow_task(folder, tokenizer, *, unanswerable):
  """Rows that no passage fits into."""
  row_format = prompt_format(tokenizer, NARROW, unanswerable=unanswerable)
  length = row_format.fixed + NARROW.max_question + answer_room(NARROW) + 14
  return toy_task(
    folder, tokenizer, unanswerable=unanswerable, length=length, qa=NARROW
  )


def test_rows_without_their_answer(tmp_path, stories):
  silent = narrow_task(tmp_path / 'v2', stories, unanswerable=True)
  eager = narrow_task(tmp_path / 'v1', stories, unanswerable=False)
  rows = {name: (len(t.splits['train']), len(t.splits['validation']))
          for name, t in (('v2', silent), ('v1', eager))}  # fmt: skip
  # v1.1 learns from the rows with the answer alone.
  assert rows['v2'][0] == rows['v2'][1] and rows['v1'][0] < rows['v1'][1]
  assert eager.splits['train'].columns['said_BA'][:].any(axis=1).all()
  windows = eager.splits['train'].host.windows
  assert len(windows) == rows['v1'][0] >= len(np.unique(windows.question_N)) == 4


def test_a_long_answer_is_cut_and_not_ended(tmp_path, stories):
  qa = QaConfig(answer='generate', overlap=16, max_question=48, max_answer=2)
  columns = (
    toy_task(tmp_path, stories, unanswerable=False, qa=qa).splits['train'].columns
  )
  assert columns['answer_BA'].shape[1] == 3
  np.testing.assert_array_equal(columns['said_BA'][:].sum(axis=1), 2)
  assert not (columns['answer_BA'][:] == stories.eos_token_id).any()


def test_loss_is_the_surprise_of_the_answer_after_its_prompt(loss, shares_of, batch):
  """Against the whole row's next-token shares, one row at a time, no padding."""
  loss_B, weight_B = loss(batch)
  for row in (0, 2):
    prompt = real(batch['ids_BL'][row], batch['mask_BL'][row])
    answer = real(batch['answer_BA'][row], batch['said_BA'][row])
    shares_LV = shares_of(prompt + answer)
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    expected = -sum(float(shares_LV[i, t]) for i, t in zip(places, answer, strict=True))
    assert float(loss_B[row]) == pytest.approx(expected, rel=1e-4)
    assert float(weight_B[row]) == len(answer)


def test_a_padding_row_has_no_weight(loss, batch):
  loss_B, weight_B = loss({name: x.at[1].set(0) for name, x in batch.items()})
  assert float(loss_B[1]) == 0 and float(weight_B[1]) == 0
  assert float(loss_B[0]) > 0 and float(weight_B[0]) > 0


def test_predictions_are_greedy_and_scored(task, batch, outputs, loss, shares_of):
  for row in (0, 3):
    prompt = real(batch['ids_BL'][row], batch['mask_BL'][row])
    said = outputs['tokens_BA'][row].tolist()
    said = said[: said.index(2) + 1] if 2 in said else said
    after_LV = shares_of(prompt + said)[len(prompt) - 1 :][: len(said)]
    assert after_LV.argmax(axis=-1).tolist() == said
    expected = after_LV.max(axis=-1).sum()
    assert outputs['score_B'][row] == pytest.approx(expected, rel=1e-3)
  # What the loss says of a no-answer reply is what the score says of it.
  golds = task.splits['validation'].host.questions.golds
  silent = [i for i, gold in enumerate(golds) if not gold]
  assert silent
  loss_B, _ = loss(batch)
  np.testing.assert_allclose(
    outputs['null_B'][silent], -np.asarray(loss_B)[silent], rtol=1e-4
  )


def say(tokenizer, texts, width=13):
  rows = [tokenizer(t, add_special_tokens=False)['input_ids'][:width] for t in texts]
  rows = [row + [tokenizer.eos_token_id] for row in rows]
  return np.array([(row + [5] * width)[:width] for row in rows])


def test_what_is_said_ends_with_the_text_or_the_line(stories):
  said = say(stories, [' Rome', 'Rome\nNext', ''], width=8)
  assert decode(stories, said) == ['Rome', 'Rome', '']


def test_answers_of_v2(task, stories):
  split = task.splits['validation']
  golds = split.host.questions.golds
  texts = [gold[0] if gold else 'Unanswerable.' for gold in golds]
  null = np.log([0.1 if gold else 0.9 for gold in golds])
  outputs = {'tokens_BA': say(stories, texts, 24), 'score_B': np.zeros(len(golds)),
             'null_B': null}  # fmt: skip
  metrics = task.evaluate(split, outputs)
  assert metrics['exact'] == metrics['NoAns_exact'] == 100.0
  assert metrics['best_f1'] == 100.0
  assert metrics['best_f1_thresh'] == pytest.approx(np.log(0.1 / 0.9), rel=1e-5)
  # An answer that the model itself would rather not give is not given.
  outputs['null_B'] = np.full(len(golds), np.log(0.6))
  metrics = task.evaluate(split, outputs)
  assert metrics['HasAns_exact'] == 0.0 and metrics['NoAns_exact'] == 100.0


def test_the_window_with_the_answer_speaks(tmp_path, stories):
  for unanswerable in (False, True):
    folder = tmp_path / str(unanswerable)
    task = narrow_task(folder, stories, unanswerable=unanswerable)
    split = task.splits['validation']
    windows, questions = split.host.windows, split.host.questions
    assert len(windows) > len(questions)
    held = split.columns['said_BA'][:].any(axis=1)
    gold = [questions.golds[i] for i in windows.question_N]
    if unanswerable:
      reply = split.columns['answer_BA'][list(map(bool, gold)).index(False)]
      held = np.array([not (row == reply).all() for row in split.columns['answer_BA']])
    texts = [g[0] if h else 'nothing' for g, h in zip(gold, held, strict=True)]
    outputs = {
      'tokens_BA': say(stories, texts, 24),
      'score_B': np.where(held, -1.0, -2.0),
      'null_B': np.where(held, -5.0, -0.01),
    }
    metrics = task.evaluate(split, outputs)
    assert metrics['f1'] == 100.0


def test_odds_of_a_sure_reply_are_finite():
  odds = no_answer_odds(np.float32([np.log(0.5), np.log(0.25), 0.0, -200.0]))
  np.testing.assert_allclose(odds[:2], [0.0, np.log(1 / 3)], atol=1e-6)
  assert np.isfinite(odds).all() and odds[2] > 10 and odds[3] == -200.0


def test_a_tokenizer_without_an_end_of_text_is_refused(tmp_path, tokenizer):
  with pytest.raises(ValueError, match='no end-of-text token'):
    toy_task(tmp_path, tokenizer, unanswerable=False)


def test_a_decoder_marks_spans_and_its_null_token_has_read_the_passage(
  tmp_path, shared, stories
):
  train, held = write_toy(tmp_path)
  qa = QaConfig(overlap=8, max_question=24)
  config = DataConfig(task='squad', train=train, validation=held, max_length=96, qa=qa)
  task = load_task(config, stories)
  model = load(str(shared / 'models' / 'stories260k'), task.head).model
  columns = {name: x[:] for name, x in task.splits['train'].columns.items()}
  run = jax.jit(
    lambda batch: (task.predict(model, batch), task.loss(model, batch, None))
  )
  logits, (loss_B, _) = run(columns)
  assert np.isfinite(loss_B).all()
  changed = {name: x.copy() for name, x in columns.items()}
  last = columns['first_B'][0] + columns['size_B'][0] - 1
  changed['ids_BL'][0, last] += 1
  after, _ = run(changed)
  null = columns['null_B'][0]
  assert null == last + 1
  assert abs(float(after['start_BL'][0, null] - logits['start_BL'][0, null])) > 1e-6
  np.testing.assert_array_equal(
    after['start_BL'][0, :last], logits['start_BL'][0, :last]
  )
