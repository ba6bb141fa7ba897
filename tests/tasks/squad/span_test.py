"""Marked spans: the loss by hand, and answers of logits that know the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.tasks import DataConfig, load_task
from adapad_jax.tasks.config import QaConfig
from adapad_jax.tasks.squad.questions import Questions
from adapad_jax.tasks.squad.span import span_answers, span_loss
from adapad_jax.tasks.squad.windows import Windows

START = np.array([[9, 1, 2, 3, 4, 9], [9, 0.5, 9, 9, 1.5, 9]], np.float32)
END = np.array([[9, 0, 1, 0, -1, 9], [9, 1.0, 9, 9, 2.0, 9]], np.float32)


def model_of(start_BL, end_BL):
  return lambda batch, keys_B=None: {
    'start_BL': jnp.asarray(start_BL, jnp.bfloat16),
    'end_BL': jnp.asarray(end_BL, jnp.bfloat16),
  }


def batch_of(**columns):
  return {name: jnp.asarray(x, jnp.int32) for name, x in columns.items()}


def test_loss_is_over_the_passage_and_the_null_token():
  # Row 0: passage in columns 2..4, null in 1. Row 1: column 4, null in 1: no answer.
  batch = batch_of(
    start_B=[2, 1], end_B=[3, 1], first_B=[2, 4], size_B=[3, 1], null_B=[1, 1]
  )
  batch['weight_B'] = jnp.asarray([1.0, 1.0])
  loss_B, weight_B = span_loss(model_of(START, END), batch, None)
  surprise = lambda logits, target: np.log(np.exp(logits).sum()) - logits[target]
  expected = [
    (surprise(START[0, 1:5], 1) + surprise(END[0, 1:5], 2)) / 2,
    (surprise(START[1, [1, 4]], 0) + surprise(END[1, [1, 4]], 0)) / 2,
  ]
  np.testing.assert_allclose(loss_B, expected, rtol=1e-6)
  assert loss_B.dtype == jnp.float32
  np.testing.assert_array_equal(weight_B, [1, 1])


def test_a_padding_row_costs_nothing_and_has_a_finite_gradient():
  zeros = batch_of(**dict.fromkeys(('start_B', 'end_B', 'first_B', 'size_B'), [0]))
  zeros |= {'null_B': jnp.zeros(1, jnp.int32), 'weight_B': jnp.zeros(1)}

  def total(scale):
    model = lambda batch, keys_B: {
      'start_BL': scale * START[:1],
      'end_BL': scale * END[:1],
    }
    return span_loss(model, zeros, None)[0].sum()

  loss, slope = jax.value_and_grad(total)(1.0)
  assert float(loss) == 0 and float(slope) == 0


def two_windows():
  """One question of 'x y z w' in the windows 'x y z' and 'z w', null in column 0."""
  chars = np.array([[0, 1], [1, 3], [3, 5], [6, 7]])
  windows = Windows(
    question_N=np.array([0, 0]),
    first_N=np.array([1, 2]),
    size_N=np.array([3, 2]),
    at_N=np.array([0, 2]),
    null_N=np.array([0, 0]),
    chars_T2=chars,
  )
  span = np.array([[0, 1]])
  questions = Questions(('q',), ('?',), ('x y z w',), np.array([0]), (('x',),), span)
  return questions, windows


def test_answers_join_the_windows_of_a_question():
  questions, windows = two_windows()
  start_NL = np.array([[3, 0, 5, 1, 9], [1, 9, 4, 2, 9]], np.float32)
  end_NL = np.array([[2, 0, 0, 3, 9], [1, 9, 2, 7, 9]], np.float32)
  outputs = {'start_BL': start_NL, 'end_BL': end_NL}
  qa = QaConfig(max_answer=2, n_best=3)
  answers = span_answers(qa, True, questions, windows, outputs)
  # 'z w' in the second window, 4 + 7; ' y z' in the first is stripped: 5 + 3.
  spans = [(c.text, c.score, c.logits) for c in answers.n_best[0]]
  assert spans == [
    ('z w', 11.0, (4.0, 7.0)),
    ('w', 9.0, (2.0, 7.0)),
    ('y z', 8.0, (5.0, 3.0)),
    ('', 2.0, (1.0, 1.0)),  # The smaller of the two null scores.
  ]
  assert answers.texts == ('z w',)
  np.testing.assert_array_equal(answers.odds_Q, [2.0 - 11.0])
  quiet = QaConfig(max_answer=2, null_threshold=-9.5)
  assert span_answers(quiet, True, questions, windows, outputs).texts == ('',)
  first = span_answers(QaConfig(max_answer=1), False, questions, windows, outputs)
  assert first.texts == ('w',) and first.odds_Q is None


def test_a_model_that_diverged_is_scored_not_an_error():
  questions, windows = two_windows()
  nan = np.full((2, 5), np.nan, np.float32)
  answers = span_answers(
    QaConfig(), False, questions, windows, {'start_BL': nan, 'end_BL': nan}
  )
  assert answers.texts == ('',) and answers.n_best == ((),)


@pytest.fixture(scope='module')
def real(shared, tokenizer):
  squad = shared / 'data' / 'squad'
  config = DataConfig(
    task='squad_v2',
    train=str(squad / 'dev-v2.0.part16.json'),
    holdout=0.25,
    max_train_rows=50,
    max_length=192,
    qa=QaConfig(overlap=64),
  )
  return load_task(config, tokenizer)


def logits_that_know(split, noise):
  rng = np.random.default_rng(0)
  outputs = {}
  for name in ('start', 'end'):
    x = rng.normal(size=split.columns['ids_BL'].shape).astype(np.float32) * noise
    x[np.arange(len(split)), split.columns[f'{name}_B']] += 30
    outputs[f'{name}_BL'] = x
  return outputs


def test_logits_that_know_the_truth_score_almost_everything(real):
  split = real.splits['validation']
  metrics = real.evaluate(split, logits_that_know(split, 1.0))
  assert metrics['exact'] > 99 and metrics['NoAns_exact'] == 100.0
  assert metrics['HasAns_f1'] > 99 and metrics['best_f1'] >= metrics['f1']
  blind = real.evaluate(split, logits_that_know(split, 1e4))
  assert blind['f1'] < 20 and blind['best_f1'] < 60


def test_articles_are_on_one_side(real):
  train = real.splits['train'].host.questions
  held = real.splits['validation'].host.questions
  assert not set(train.passages) & set(held.passages)
  assert len(train) == 50 and len(held) > 1500


def test_files_of_a_split(real, tmp_path):
  split = real.splits['train']
  real.write_predictions(split, logits_that_know(split, 1.0), tmp_path / 'p.json')
  assert len(list(tmp_path.iterdir())) == 3
