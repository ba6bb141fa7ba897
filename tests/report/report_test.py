"""Tests ../../adapad_jax/report: a tiny run's page, figures and comparison."""

import base64
import dataclasses
import html.parser
import json
import pathlib
import re
import shutil

import numpy as np
import pytest

pytest.importorskip('matplotlib', reason='the extra `report` is not installed')

from adapad_jax.commands import Request, train  # noqa: E402
from adapad_jax.commands.registry import run as run_mode  # noqa: E402
from adapad_jax.report import curves, ranks, spectra, tables, write  # noqa: E402
from adapad_jax.report.drawings import SECTIONS  # noqa: E402
from adapad_jax.report.grid import OUTSIDE, Grid  # noqa: E402
from adapad_jax.report.run import read_run  # noqa: E402
from tests import tiny  # noqa: E402

FIGURES = [
  'metric', 'loss', 'ranks', 'growth', 'moments', 'importance', 'ledger', 'truncation',
  'spectra', 'angles', 'time',
]  # fmt: skip
# Elements without an end tag.
VOID = {'meta', 'img', 'source', 'br'}


def ask(mode, workdir, config=None, output=''):
  options = {'dry_run': False, 'output': output}
  run_mode(mode, Request(config, pathlib.Path(workdir), options))


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """A run that could not draw when it ended."""
  folder = tmp_path_factory.mktemp('report')
  tiny.make_data(folder)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr('adapad_jax.commands.train.can_draw', lambda: False)
    ask('train', folder / 'run', tiny.values(folder))
  assert not (folder / 'run' / write.REPORT).exists()
  return folder / 'run'


@pytest.fixture(scope='module')
def page(workdir):
  """The page that the same command writes once it can."""
  ask('train', workdir, tiny.values(workdir.parent))
  return (workdir / write.REPORT).read_text()


@pytest.fixture(scope='module')
def tiny_run(workdir):
  return read_run(workdir)


class Structure(html.parser.HTMLParser):
  """Checks that elements are closed in order and collects what is referred to."""

  def __init__(self):
    super().__init__()
    self.open, self.links, self.texts = [], [], []

  def handle_starttag(self, tag, attrs):
    if tag not in VOID:
      self.open.append(tag)
    named = dict(attrs)
    self.links += [named[key] for key in ('src', 'srcset', 'href') if key in named]
    assert tag != 'img' or named['alt']

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)


def read_page(text):
  structure = Structure()
  structure.feed(text)
  assert not structure.open
  return structure


def test_the_page_is_whole_and_needs_no_network(page, workdir):
  found = read_page(page)
  assert all(link.startswith('data:image/png;base64,') for link in found.links)
  assert len(found.links) == 2 * len(FIGURES)
  embedded = [base64.b64decode(link.split(',')[1]) for link in found.links]
  on_disk = [
    (workdir / 'figures' / f'{name}-{look}.png').read_bytes()
    for name in FIGURES
    for look in ('dark', 'light')
  ]
  assert embedded == on_disk
  assert all(png.startswith(b'\x89PNG') for png in embedded)
  assert len(set(embedded)) == len(embedded)


def test_the_page_says_what_the_result_says(page, workdir):
  text = '\n'.join(read_page(page).texts)
  result = json.loads((workdir / 'result.json').read_text())
  assert f'{result["best"]["metrics"]["accuracy"]:.4f}' in text
  assert 'optimizer.learning_rate' in text and result['command'] in text
  assert f'{result["curve"]["aurac"]:.4f} on average over log2 of the rank' in text
  for grant in result['grants']:
    row = f'{grant["round"]}\n{grant["module"]}\n{grant["component"]}\n'
    assert row in re.sub(r'\n+', '\n', text)


def test_ranks_from_the_ledger_are_those_that_were_logged(tiny_run):
  assert set(tiny_run.ranks_after(0).values()) == {1}
  assert len(tiny_run.grants) == sum(tiny_run.ranks.values()) - len(tiny_run.ranks)
  for snapshot in tiny_run.snapshots:
    assert tiny_run.ranks_after(snapshot.round) == snapshot.rank
  assert ranks.moments(tiny_run)[-1][1] == tiny_run.ranks


def test_the_spectra_belong_to_the_adapter(tiny_run):
  for name, one in tiny_run.spectra.items():
    assert len(one.norm_R) == len(one.angles) == tiny_run.ranks[name]
    # ||Delta W||^2 from singular values and from components with their angles.
    assert np.sum(one.singular_R**2) <= np.sum(one.norm_R) ** 2 * (1 + 1e-4)
  assert tiny_run.parameters_of_prefix(3) == tiny_run.result['adapter_parameters']
  assert tiny_run.parameters_of_prefix(0) == 0


def test_the_phases_make_up_the_run(tiny_run):
  phases = tiny_run.result['phases']
  assert sum(phases.values()) == pytest.approx(tiny_run.result['seconds'])
  want = {'data and plan', 'reading weights', 'compilation', 'evaluations', 'rounds'}
  assert want <= set(phases)
  assert all(value > 0 for value in phases.values())


def test_sections_without_content_are_left_out(tiny_run):
  bare = dataclasses.replace(
    tiny_run,
    result={**tiny_run.result, 'grants': [], 'prefixes': [0.5]},
    series={},
    snapshots=(),
    grants=(),
    spectra={},
  )
  names = [one.name for make in SECTIONS.values() for one in make(bare)]
  assert names == ['ranks', 'time']


def test_no_state_need_have_every_metric(tiny_run, tmp_path):
  """The page of a run whose baseline has a metric less, and whose best has one less."""
  for name in ('config.json', 'metrics.jsonl', 'ranks.jsonl'):
    shutil.copy(tiny_run.workdir / name, tmp_path)
  best, last = ({'step': 1, 'metrics': m} for m in ({}, {'accuracy': None, 'new': 0.5}))
  baseline = {'name': 'chance', 'metrics': {'other': 0.125}}
  states = {'best': best, 'last': last, 'baseline': baseline}
  result = {**tiny_run.result, **states}
  (tmp_path / 'result.json').write_text(json.dumps(result))
  ask('report', tmp_path)
  text = re.sub(r'\n+', '\n', '\n'.join(read_page(read(tmp_path)).texts))
  assert '\nstate\naccuracy\nnew\nother\n' in text
  assert '\nbest (round 1)\n-\n-\n-\n' in text
  assert '\nlast (round 1)\n-\n0.5000\n-\nbaseline: chance\n-\n-\n0.1250\n' in text
  ask('report', f'{tmp_path},{tiny_run.workdir}', output=str(tmp_path / 'both.html'))
  assert 'accuracy -' in (tmp_path / 'both.html').read_text()


def read(workdir):
  return (workdir / write.REPORT).read_text()


def test_counts_and_thresholds_share_no_axis_with_metrics(tiny_run):
  one = tiny_run.series['eval/accuracy']
  names = ('total', 'HasAns_total', 'best_f1_thresh', 'best_f1', 'loss')
  series = tiny_run.series | {f'eval/{name}': one for name in names}
  found = curves.metric_names(dataclasses.replace(tiny_run, series=series))
  assert found[0] == 'accuracy' and 'best_f1' in found
  assert not {'total', 'HasAns_total', 'best_f1_thresh', 'loss'} & set(found)


def test_modules_have_their_places():
  names = ['h.0.attn.q', 'h.0.mlp', 'h.10.mlp', 'h.2.attn.q', 'pooler']
  grid = Grid.of(names)
  assert grid.kinds == ('attn.q', 'mlp', 'pooler')
  assert grid.layers == ('0', '2', '10', OUTSIDE)
  filled = grid.fill({name: i for i, name in enumerate(names)})
  want = [[0, 3, -1, -1], [1, -1, 2, -1], [-1, -1, -1, 4]]
  np.testing.assert_array_equal(np.nan_to_num(filled, nan=-1), want)


@pytest.mark.parametrize('length', [1, 5, 40])
def test_the_running_mean_is_that_of_a_loop(length):
  values_T = np.random.default_rng(length).normal(size=length)
  reach = max(length // 10, 1)
  want = [np.mean(values_T[max(t - reach, 0) : t + reach + 1]) for t in range(length)]
  np.testing.assert_allclose(curves.running_mean(values_T), want)


def test_the_median_angle_takes_modules_that_have_the_pair(tiny_run):
  module = next(iter(tiny_run.spectra.values()))
  angles = [((), (80.0,)), ((), (60.0,), (10.0, 20.0)), ((),)]
  some = {
    str(i): dataclasses.replace(module, angles=rows) for i, rows in enumerate(angles)
  }
  median_RR = spectra.median_angles(dataclasses.replace(tiny_run, spectra=some))
  assert median_RR[1, 0] == 70 and median_RR[2].tolist()[:2] == [10, 20]
  assert np.isnan(median_RR[0]).all()


def test_runs_are_compared(tiny_run, tmp_path, capsys):
  copies = [tmp_path / name / 'run' for name in ('one', 'two')]
  for copy in copies:
    copy.mkdir(parents=True)
    for name in ('config.json', 'result.json', 'metrics.jsonl', 'ranks.jsonl'):
      shutil.copy(tiny_run.workdir / name, copy)
  config = json.loads((copies[1] / 'config.json').read_text())
  config['optimizer']['learning_rate'] = 0.125
  (copies[1] / 'config.json').write_text(json.dumps(config))
  ask('report', ','.join(map(str, copies)), output=str(tmp_path / 'both.html'))
  assert f'report: {tmp_path / "both.html"}' in capsys.readouterr().out
  found = read_page((tmp_path / 'both.html').read_text())
  text = re.sub(r'\n+', '\n', '\n'.join(found.texts))
  assert 'optimizer.learning_rate\n0.02\n0.125\n' in text
  assert 'one/run' in text and 'two/run' in text and 'train.batch' not in text
  shown = list((tmp_path / 'both-figures').glob('*.png'))
  assert len(shown) == len(found.links)
  # Neither a page nor figures of others are lost.
  both = ','.join(map(str, copies))
  with pytest.raises(ValueError, match=r'both.html exists already; .* --overwrite'):
    ask('report', both, output=str(tmp_path / 'both.html'))
  (tmp_path / 'both.html').unlink()
  with pytest.raises(ValueError, match=r'both-figures/.*png exists already'):
    ask('report', both, output=str(tmp_path / 'both.html'))
  with pytest.raises(
    ValueError, match=r"report.html is where the run's own report lies"
  ):
    ask('report', both, output=str(copies[0] / 'report.html'))


def test_what_cannot_be_reported_is_refused(workdir, tmp_path, monkeypatch, capsys):
  with pytest.raises(ValueError, match='holds no run'):
    ask('report', tmp_path)
  shutil.copy(workdir / 'config.json', tmp_path)
  with pytest.raises(ValueError, match='has not ended'):
    ask('report', tmp_path)
  (tmp_path / 'result.json').write_text('{"program": "other"}')
  with pytest.raises(ValueError, match='a run of program .other.'):
    ask('report', tmp_path)
  with pytest.raises(ValueError, match='must end in .html'):
    ask('report', f'{workdir},{workdir}', output='x.pdf')
  monkeypatch.setattr(write, 'can_draw', lambda: False)
  with pytest.raises(ValueError, match=r'pip install .adapad-jax\[report\]'):
    ask('report', workdir)
  monkeypatch.setattr('adapad_jax.commands.train.can_draw', lambda: False)
  ask('train', workdir, tiny.values(workdir.parent))
  assert '--mode=report --workdir=' in capsys.readouterr().out
  assert "--workdir='a run'" in train._report(pathlib.Path('a run'))


def test_prefixes_that_were_not_scored_have_no_exact_match(tiny_run):
  scored = [None, {'loss': 1.0, 'exact_match': 0.25}, {'loss': 0.9, 'exact_match': 0.5}]
  run = dataclasses.replace(
    tiny_run, result=tiny_run.result | {'prefix_metrics': scored}, samples=(0, ())
  )
  text = tables.samples(run)
  cells = re.findall(r'<t[hd][^>]*>([^<]*)</t[hd]>', text)
  assert cells == ['components a module', '1', '2', 'exact match', '0.25', '0.5']
  plain = dataclasses.replace(run, result=run.result | {'prefix_metrics': [None, {}]})
  assert tables.samples(plain) == ''
