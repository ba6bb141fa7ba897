"""Runs whose frozen kernels are packed: training, restarts, evaluation, exports."""

import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from adapad_jax.commands import Request, registry
from adapad_jax.interchange import Release, read_peft, write_merged, write_peft
from adapad_jax.models import Head, load
from adapad_jax.models.originals import original_kernels
from adapad_jax.models.quantised import PackedLinear
from adapad_jax.training import finetune_config, make_plan, train
from adapad_jax.training.completions import Decoding
from adapad_jax.training.memory import estimate
from adapad_jax.training.saved import restore
from adapad_jax.training.summary import describe
from adapad_jax.training.talk import Talker
from adapad_jax.workdir import read_lines
from tests import tiny, tiny_chat
from tests.commands import exchange
from tests.commands.exchange import DEFAULTS, call
from tests.interchange import kit
from tests.training.train_test import assert_same, final_state


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
  """The config of a run on a model with weights on disk."""
  return exchange.values_in(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def values(plain):
  return plain | {'model': plain['model'] | {'weights': 'nf4'}}


@pytest.fixture(scope='module')
def run(values, tmp_path_factory):
  """A finished run: its workdir and result."""
  workdir = tmp_path_factory.mktemp('runs') / 'whole'
  return workdir, train(finetune_config(values), workdir)


@pytest.fixture(scope='module')
def exported(run, tmp_path_factory):
  out = tmp_path_factory.mktemp('export') / 'adapter'
  registry.run('export', Request(None, run[0], DEFAULTS | {'out': str(out)}))
  return out


def test_it_learns_and_opens_with_the_same_metrics(run, capsys):
  workdir, result = run
  saved = restore(workdir)
  layer = saved.session.pretrained.model.bert.encoder.layer[1]
  assert isinstance(layer.attention.self.query, PackedLinear)
  best = result['best']['metrics']
  assert best['accuracy'] > result['baseline']['metrics']['accuracy'] + 0.2
  assert call('eval', capsys, workdir)['accuracy'] == best['accuracy']


def test_a_run_goes_on_from_a_checkpoint_to_the_same_state(run, values, tmp_path):
  workdir = tmp_path / 'resumed'
  shutil.copytree(run[0], workdir)
  (workdir / 'result.json').unlink()
  latest = workdir / 'checkpoints' / 'latest'
  shutil.rmtree(max(latest.iterdir(), key=lambda path: int(path.name)))
  result = train(finetune_config(values), workdir)
  assert result['best'] == run[1]['best']
  steps, states = zip(*(final_state(values, w) for w in (run[0], workdir)), strict=True)
  assert steps == (tiny.STEPS, tiny.STEPS)
  assert_same(*states)


def test_another_form_is_another_run(run, plain):
  with pytest.raises(ValueError, match="model.weights is '', there it is 'nf4'"):
    train(finetune_config(plain), run[0])


def test_an_adapter_is_for_the_originals(
  run, exported, plain, values, capsys, tmp_path
):
  """Its fingerprint is that of the files, so it fits the base in any form."""
  best = run[1]['best']['metrics']
  same, whole = (
    call('import', capsys, tmp_path / name, config, adapter=exported)['accuracy']
    for name, config in (('same', values), ('whole', plain))
  )
  assert same == best['accuracy'] and whole > best['accuracy'] - 0.2
  card = (exported / 'README.md').read_text()
  assert 'with the kernels in nf4' in card and "dtype='float32'" in card


def test_a_merged_model_is_the_sum_with_the_originals(run, plain, capsys, tmp_path):
  out = tmp_path / 'merged'
  found = call('export', capsys, run[0], out=out, format='merged')
  assert found['delta_error'] == 0 and found['logit_gap'] < 1e-5
  card = (out / 'README.md').read_text()
  assert 'with the kernels in nf4' in card
  # They are those of other kernels.
  assert 'accuracy' not in found and 'metrics' not in card
  before = load_file(f'{plain["model"]["source"]}/model.safetensors')
  after, adapter = load_file(out / 'model.safetensors'), restore(run[0]).adapter
  assert before.keys() == after.keys()
  for name, weight_OI in before.items():
    update = adapter.modules.get(name.removesuffix('.weight'))
    if update is not None:
      weight_OI = weight_OI + update.weight().T
    if not name.startswith(('bert.pooler', 'classifier')):
      np.testing.assert_allclose(after[name], weight_OI, atol=1e-6, err_msg=name)


def test_drawn_kernels_cannot_be_merged(tmp_path):
  source, out = tiny.make_model(tmp_path / 'model'), tmp_path / 'out'
  options = dict(random_weights=True, weights='int8')
  base = load(source, Head('classification'), **options)
  release = Release(kit.draw_adapter(base), base, 'tiny')
  with pytest.raises(ValueError, match='held as int8, is nowhere: it was drawn'):
    write_merged(release, out, kit.random_batch(14))
  report = write_peft(release, out, kit.random_batch(14))
  assert report.delta_error == 0
  read_peft(out, base)


def test_reranking_refuses_packed_kernels(values, exported, tmp_path):
  options = {'adapter': str(exported), 'budget': 12, 'out': str(tmp_path / 'x')}
  with pytest.raises(ValueError, match="needs model.weights='', not 'nf4'"):
    registry.run('rerank', Request(values, None, DEFAULTS | options))


@pytest.mark.parametrize('form', ['', 'bfloat16', 'int8', 'nf4'])
def test_the_plan_tells_bytes_in_that_form(form, plain):
  plan = make_plan(
    finetune_config(plain | {'model': plain['model'] | {'weights': form}})
  )
  base = load(plain['model']['source'], Head('classification'), weights=form)
  held = sum(leaf.nbytes for leaf in jax.tree.leaves(base.model))
  line = next(x for x in describe(plan).splitlines() if x.startswith('model '))
  whole = load(plain['model']['source'], Head('classification'))
  parameters = sum(leaf.size for leaf in jax.tree.leaves(whole.model))
  end = f', kernels in {form}' if form else ''
  assert line.endswith(f': {parameters:,} parameters in {held / 1e6:,.1f} MB{end}')


def test_the_memory_estimate_counts_packed_kernels(values):
  plan = make_plan(finetune_config(values))
  base = load(values['model']['source'], Head('classification'), weights='nf4')
  held = sum(leaf.nbytes for leaf in jax.tree.leaves(base.model))
  assert estimate(plan).weights == held


def test_originals_are_those_of_the_files(plain):
  source = plain['model']['source']
  base = load(source, Head('classification'), weights='nf4', scan=True)
  name = 'bert.encoder.layer.1.output.dense'
  ((found, kernel_IO),) = original_kernels(base, [name])
  assert found == name
  stored = load_file(f'{source}/model.safetensors')
  np.testing.assert_array_equal(kernel_IO.T, stored[f'{name}.weight'])


def test_a_chat_model_answers(chat_folder, tmp_path):
  values = tiny_chat.values(chat_folder, model={'weights': 'int8'})
  train(finetune_config(values), tmp_path)
  lines = read_lines(tmp_path / 'metrics.jsonl')
  losses = [line['train/loss'] for line in lines if 'train/loss' in line]
  assert losses[-1] < losses[0]
  opened = restore(tmp_path)
  prompt, _ = opened.plan.task.chat.prompt_of_row({'question': 'Hi'})
  said = [*Talker(opened, Decoding(max_new_tokens=4)).answer(prompt.ids)]
  assert 0 < len(said) <= 4
