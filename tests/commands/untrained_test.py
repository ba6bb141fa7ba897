"""Import, export and re-ranking of an adapter that is drawn, not trained."""

import csv
import json

import pytest

from adapad_jax.commands import Request, registry
from adapad_jax.files import read_json
from adapad_jax.interchange import write_merged, write_peft
from adapad_jax.models import Head
from adapad_jax.training import finetune_config, make_plan
from adapad_jax.training.saved import restore
from tests.commands.exchange import DEFAULTS, call, values_in
from tests.interchange import kit

TENSORS = 'adapter_model.safetensors'


@pytest.fixture(scope='module')
def values(tmp_path_factory):
  return values_in(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def divided(values):
  """The same run on two devices that have a part of the weights each."""
  found = values | {'mesh': {'worker': 1, 'data': 1, 'model': 2}}
  assert make_plan(finetune_config(found)).attachment.divided
  return found


@pytest.fixture(scope='module')
def release(values):
  source, head = values['model']['source'], Head('classification')
  return kit.draw_release(source, head, label_names=('neg', 'pos'))


@pytest.fixture(scope='module')
def large(release, tmp_path_factory):
  """It on disk, as an adapter and merged: what --adapter and --tuned may be."""
  folder, batch = tmp_path_factory.mktemp('large'), kit.random_batch(14)
  write_peft(release, folder / 'adapter', batch)
  write_merged(release, folder / 'tuned', batch)
  return folder


@pytest.mark.parametrize('scan', [False, True], ids=['unrolled', 'scanned'])
def test_divided_weights_take_an_adapter_in_and_give_it_out(
  large, divided, scan, capsys, tmp_path
):
  config = divided | {'model': divided['model'] | {'scan': scan}}
  call('import', capsys, tmp_path / 'run', config, adapter=large / 'adapter')
  for form in ('peft', 'merged'):
    found = call('export', capsys, tmp_path / 'run', out=tmp_path / form, format=form)
    assert found['delta_error'] == 0 and found['logit_gap'] < 1e-5
  same = lambda folder: (folder / TENSORS).read_bytes()
  assert same(tmp_path / 'peft') == same(large / 'adapter')


def test_what_an_adapter_brings_is_not_left_to_grow(large, values, capsys, tmp_path):
  """Neither import nor training asks for the rounds that its ranks would have taken."""
  short = values['train'] | {'steps': 2, 'evaluations': 1}
  config, workdir = values | {'train': short}, tmp_path / 'run'
  with pytest.raises(ValueError, match='the budget of 18 is spent in round 31'):
    make_plan(finetune_config(config))
  call('import', capsys, workdir, config, adapter=large / 'adapter')
  begins = sum(restore(workdir).adapter.ranks.values())
  assert begins > 18
  registry.run('train', Request(None, workdir, DEFAULTS | {'dry_run': True}))
  assert f'components: {begins} at the start, {begins} at' in capsys.readouterr().out
  for _ in range(2):  # The second shows the outcome.
    registry.run('train', Request(None, workdir, DEFAULTS))
  result = read_json(workdir / 'result.json')
  assert result['rounds'] == 2 and result['rank_total'] == begins

  more = config | {'adapad': values['adapad'] | {'budget': begins + 1}}
  message = f'the budget of {begins + 1} is spent in round 11 at the earliest'
  with pytest.raises(ValueError, match=message):
    call('import', capsys, tmp_path / 'more', more, adapter=large / 'adapter')


@pytest.mark.parametrize('kind', ['adapter', 'tuned'])
def test_rerank_of_a_config_with_divided_weights(
  large, divided, kind, capsys, tmp_path
):
  options = {kind: large / kind, 'budget': 15, 'out': tmp_path / 'small'}
  found = call('rerank', capsys, None, divided, **options)
  assert found['components'] == 15 and 0.5 < found['explained'] < 1


def test_rerank_reads_no_labels(large, values, capsys, tmp_path):
  """The text of the training split, as a file without labels, gives the same."""
  with open(f'{values["data"]["path"]}/train.csv') as file:
    rows = [json.dumps({'text': row['text']}) for row in csv.DictReader(file)]
  bare = tmp_path / 'bare.jsonl'
  bare.write_text('\n'.join(rows))
  options = {'adapter': large / 'adapter', 'budget': 15}
  for name, given in (('split', ''), ('file', bare)):
    call('rerank', capsys, None, values, **options, input=given, out=tmp_path / name)
  one, other = ((tmp_path / name / TENSORS).read_bytes() for name in ('split', 'file'))
  assert one == other


@pytest.mark.parametrize(
  'mode, kind', [('import', 'adapter'), ('rerank', 'adapter'), ('rerank', 'tuned')]
)
def test_labels_in_another_order_are_refused(
  large, values, mode, kind, capsys, tmp_path
):
  config = values | {'data': values['data'] | {'labels': ('pos', 'neg')}}
  options = {kind: large / kind, 'out': tmp_path / 'out', 'budget': 15}
  message = r"\['neg', 'pos'\], the task has \['pos', 'neg'\] in another order"
  with pytest.raises(ValueError, match=message):
    call(mode, capsys, tmp_path / 'run', config, **options)
  assert list(tmp_path.iterdir()) == []
