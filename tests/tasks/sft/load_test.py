"""The task as a whole: splits, metrics, what a plan says, and runs in the loop."""

import json
import math

import jax
import numpy as np
import pytest

from adapad_jax.sharding import put
from adapad_jax.tasks import DataConfig, load_task
from adapad_jax.tasks.config import ChatConfig
from adapad_jax.training import finetune_config, make_plan, train
from adapad_jax.training.session import open_session
from tests import tiny_chat
from tests.tasks.sft import toy


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tiny_chat.make_folder(tmp_path_factory.mktemp('sft'))


@pytest.fixture(scope='module')
def tokens():
  return toy.tokenizer(toy.CHATML, eos='<|im_end|>')


def load(folder, tokens, **more):
  chat = more.pop('chat', {})
  given = {'train': str(folder / 'train.jsonl'), 'max_length': 64}
  given |= {'cache': str(folder / 'cache')} | more
  return load_task(DataConfig(task='sft', chat=ChatConfig(**chat), **given), tokens)


def test_a_run_trains_and_keeps_the_state_of_least_loss(folder, tmp_path):
  result = train(finetune_config(tiny_chat.values(folder)), tmp_path / 'run')
  best, last = result['best']['metrics'], result['last']['metrics']
  assert result['metric'] == 'loss' and set(best) == {
    'loss', 'perplexity', 'token_accuracy'}  # fmt: skip
  assert best['loss'] <= last['loss'] < result['prefixes'][0] - 0.3
  assert best['loss'] == result['prefixes'][-1]
  assert best['perplexity'] == pytest.approx(math.exp(best['loss']))
  assert result['baseline']['name'] == 'token frequencies'


def test_a_plan_says_what_is_read_and_learned(folder):
  lines = '\n'.join(make_plan(finetune_config(tiny_chat.values(folder))).task.about())
  assert f'rows of {folder / "train.jsonl"}: layout question-answer' in lines
  assert "chat template: the model's own; loss on assistant" in lines
  assert 'train: 56 rows,' in lines and 'validation: 8 rows,' in lines
  assert '⟦' in lines and '<|im_end|>⟧' in lines and '0 cut, 0 dropped' in lines


def test_a_plan_says_where_no_template_is_used(folder, tokens, tmp_path):
  path = tmp_path / 'pairs.jsonl'
  path.write_text('{"prompt": "Who?", "completion": " I."}\n' * 40)
  note = f'note: rows of {path} are plain strings, which no template is put around'
  told = lambda **chat: '\n'.join(
    load(folder, tokens, train=str(path), chat=chat).about()
  )
  assert note in told() and note not in told(strings='turns')


def round_of(config, batch, mesh=(1, 1), **train):
  """One round from the start on these rows: its metrics, the components after it."""
  groups = config | {'mesh': {'worker': mesh[0], 'data': mesh[1]}}
  rows = len(batch['ids_BL'])
  groups['train'] = config['train'] | {'batch': rows} | train
  plan = make_plan(finetune_config(groups))
  with jax.set_mesh(plan.mesh):
    session = open_session(plan)
    places = plan.method.rows(plan.mesh)
    host = {name: column[places.order_B][None] for name, column in batch.items()}
    state = plan.method.place(jax.jit(plan.method.init)(session.head), plan.mesh)
    step = plan.method.live_rounds(plan.mesh)
    state, metrics = step(state, session.params, put(host, places.spec))
    found = plan.method.portable(state)
    return jax.device_get(metrics), jax.device_get(found.stack_RMP)


def first_rows(folder, tokens):
  columns = load(folder, tokens, holdout=0.125).splits['train'].columns
  return {name: column[np.arange(8)] for name, column in columns.items()}


@pytest.mark.parametrize(
  ('mesh', 'accumulate'), [((1, 4), 1), ((2, 2), 1), ((1, 1), 4), ((2, 1), 2)]
)
def test_the_loss_is_a_mean_over_tokens_on_every_mesh(folder, tokens, mesh, accumulate):
  """Rows have different numbers of learned tokens, so a mean of means would differ."""
  config = tiny_chat.values(folder, optimizer={'rule': 'sgd'})
  batch = first_rows(folder, tokens)
  assert len(set(batch['learned_BL'].sum(axis=1).tolist())) > 1
  metrics, stack = round_of(config, batch)
  others, other_stack = round_of(config, batch, mesh, accumulate=accumulate)
  for name in ('loss', 'loss_R', 'norm_R'):
    np.testing.assert_allclose(others[name], metrics[name], atol=1e-5, rtol=1e-5)
  np.testing.assert_allclose(other_stack, stack, atol=1e-5)


def test_packed_rows_train_workers_as_unpacked_ones_do(folder, tokens):
  """Feeding 'split': a packed row belongs to one worker, and so do its documents."""
  deflating = {'joint': 0.0, 'polish': 0.0}  # Half as many rows, shared alike.
  config = tiny_chat.values(folder, optimizer={'rule': 'sgd'}, adapad=deflating)
  alone = first_rows(folder, tokens)
  room = 64
  packed = {n: np.zeros((4, room), np.int32) for n in (*alone, 'segments_BL')}
  for document in range(8):
    row, size = document // 2, int(alone['mask_BL'][document].sum())
    at = int(packed['mask_BL'][row].sum())
    for name, column in alone.items():
      packed[name][row, at : at + size] = column[document, :size]
    packed['segments_BL'][row, at : at + size] = document % 2 + 1
  metrics, stack = round_of(config, alone)
  others, other_stack = round_of(config, packed)
  for name in ('loss', 'loss_R', 'norm_R'):
    np.testing.assert_allclose(others[name], metrics[name], atol=1e-5, rtol=1e-5)
  np.testing.assert_allclose(other_stack, stack, atol=1e-5)


def test_a_plan_says_where_marks_leave_the_end_of_a_turn_out(folder, tmp_path):
  inside, behind = "m.content + '<|im_end|>' }}{%- endg", 'm.content }}{%- endg'
  outside = toy.MARKED.replace(inside, behind).replace(
    '{%- endgeneration %}', "{%- endgeneration %}{{- '<|im_end|>' }}"
  )
  said = {}
  for name, text in {'inside': toy.MARKED, 'outside': outside}.items():
    (tmp_path / name).write_text(text)
    for loss in ('assistant', 'completion'):
      data = {'chat': {'template': str(tmp_path / name), 'loss': loss}}
      values = tiny_chat.values(folder, data=data)
      about = '\n'.join(make_plan(finetune_config(values)).task.about())
      note = "marks of this template leave out '<|im_end|>', which ends a turn"
      said[name, loss] = note in about
  assert [key for key, told in said.items() if told] == [('outside', 'assistant')]


def test_a_run_with_packed_rows(folder, tmp_path):
  config = tiny_chat.values(folder, train={'batch': 4, 'steps': 6, 'packing': True,
                                 'evaluations': 1, 'eval_batch': 8})  # fmt: skip
  plan = make_plan(finetune_config(config))
  packed = plan.task.splits['train']
  assert len(packed) < 56 and packed.columns['ids_BL'].shape[1] == 64
  assert len(plan.task.splits['validation']) == 8
  assert f'packing: 56 documents in {len(packed)} rows of 64' in plan.task.about()[-1]
  result = train(finetune_config(config), tmp_path / 'run')
  assert result['last']['metrics']['loss'] < result['prefixes'][0]


def test_only_this_task_packs(tmp_path):
  from tests import tiny

  tiny.make_data(tmp_path)
  config = finetune_config(tiny.values(tmp_path, train={'packing': True}))
  with pytest.raises(ValueError, match="rows of task 'classification' cannot share"):
    make_plan(config)


def test_metrics_are_means_over_tokens(folder, tokens):
  task = load(folder, tokens, holdout=0.04)
  split = task.splits['validation']
  assert len(split) == 3
  outputs = {
    'loss_B': np.array([2.0, 4.0, 0.0]),
    'tokens_B': np.array([1.0, 4.0, 3.0]),
    'right_B': np.array([1.0, 0.0, 3.0]),
  }
  found = task.evaluate(split, outputs)
  assert found == {
    'loss': 0.75, 'perplexity': pytest.approx(math.exp(0.75)), 'token_accuracy': 0.5
  }  # fmt: skip
  with pytest.raises(ValueError, match='3 rows, but there are 2 outputs'):
    task.evaluate(split, {k: v[:2] for k, v in outputs.items()})


def test_less_loss_is_better_and_none_is_worst(folder, tokens):
  task = load(folder, tokens)
  score = lambda value: task.score({'loss': value})
  assert score(1.0) > score(2.0) > score(math.nan) == score(None) == -math.inf


def test_the_baseline_is_the_entropy_of_token_frequencies(folder, tokens):
  task = load(folder, tokens, holdout=0.125)
  learned = lambda name: np.concatenate(
    [row[mask > 0] for row, mask in zip(
      task.splits[name].columns['ids_BL'][:],
      task.splits[name].columns['learned_BL'][:], strict=True)]
  )  # fmt: skip
  counts = (
    np.bincount(learned('train'), minlength=max(tokens.get_vocab().values()) + 1) + 1
  )
  expected = -np.mean(np.log(counts / counts.sum())[learned('validation')])
  assert task.baseline.metrics['loss'] == pytest.approx(expected)


def test_splits_and_their_names(folder, tokens, tmp_path):
  held = toy.write_rows(
    tmp_path / 'held.jsonl', [{'prompt': 'Hi', 'completion': ' No'}]
  )
  task = load(folder, tokens, validation=held, test=held)
  assert list(task.splits) == ['train', 'validation', 'test']
  assert (len(task.splits['train']), len(task.splits['test'])) == (64, 1)
  # Without validation data a twentieth of the rows is held out.
  assert len(load(folder, tokens).splits['validation']) == 4
  task = load(folder, tokens, validation=held, holdout=0.25, max_train_rows=9,
              max_eval_rows=5)  # fmt: skip
  assert [len(task.splits[n]) for n in ('train', 'validation', 'dev')] == [9, 5, 1]


def test_predictions_are_the_losses_of_rows(folder, tokens, tmp_path):
  task = load(folder, tokens)
  split = task.read(folder / 'train.jsonl')
  outputs = {'loss_B': np.full(64, 3.0), 'tokens_B': np.full(64, 2.0),
             'right_B': np.full(64, 1.0)}  # fmt: skip
  task.write_predictions(split, outputs, tmp_path / 'out.jsonl')
  rows = [json.loads(x) for x in (tmp_path / 'out.jsonl').read_text().splitlines()]
  assert rows[1] == {
    'index': 1, 'prediction': 1.5, 'tokens': 2, 'token_accuracy': 0.5, 'row': 2
  }  # fmt: skip


@pytest.mark.parametrize(
  ('field', 'value'), [('loss', 'asistant'), ('too_long', 'ct'), ('strings', 'pain')]
)
def test_unknown_choices_name_the_nearest(field, value):
  with pytest.raises(ValueError, match=f"data.chat.{field} '{value}'; did you mean"):
    ChatConfig(**{field: value})


def test_bad_settings_of_rows():
  with pytest.raises(ValueError, match="data.bad_rows 'dropp'; did you mean 'drop'"):
    DataConfig(bad_rows='dropp')
  with pytest.raises(ValueError, match='data.weights must be >= 0, got -1.0'):
    DataConfig(weights=(-1.0,))
  with pytest.raises(ValueError, match='data.weights must not be all zero'):
    DataConfig(weights=(0.0, 0.0))
