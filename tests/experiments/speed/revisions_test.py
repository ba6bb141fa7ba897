"""Tests ../../../experiments/speed/revisions.py: commands of two revisions by turns."""

import json
import pathlib
import subprocess

import pytest

from experiments.results import row, stamped
from experiments.speed import revisions, start
from experiments.speed.revisions import Case
from experiments.speed.start import Taken

ROOT = pathlib.Path(revisions.__file__).parents[2]


@pytest.fixture
def clone():
  if not (ROOT / '.git').exists():
    pytest.skip('needs the history that a clone has')


def test_a_command_is_run_as_both_revisions_have_it(clone, tmp_path, monkeypatch):
  """Each from its own folder, with a cache of its own, by turns."""
  ran = []

  def started(arguments, env, line, code, root):
    assert (root / 'adapad_jax' / 'main.py').is_file()
    assert env['PYTHONPATH'] == str(root)
    ran.append((root.name, env['XDG_CACHE_HOME']))
    return Taken(4.0 if root.name == 'before' else float(len(ran)), 1.0, 2.0)

  monkeypatch.setattr(start, 'started', started)
  run = revisions.EXPERIMENT.run(tmp_path, before='HEAD', repeats=3)
  rows = list(revisions.measure(run, Case('plan', ('--dry_run',))))
  assert [side for side, _ in ran] == ['before', 'now'] * 4
  assert len(set(ran)) == 2
  names = [one['figure'].removeprefix('plan: ') for one in rows]
  assert names == ['seconds', 'processor time', 'peak']
  first = rows[0]
  assert (first['value'], first['before'], first['ratio']) == (6.0, 4.0, 1.5)
  assert (first['least'], first['most']) == (1.0, 2.0)
  ran.clear()
  cold = Case('first', (), line='round 1/', trains=True, is_cold=True)
  [one] = revisions.measure(run, cold)
  assert one['figure'] == 'first: seconds'
  assert len(ran) == len(set(ran)) == 6


def test_a_start_is_timed(clone, tmp_path):
  revisions.export('HEAD', tmp_path / 'now')
  found = revisions.taken(tmp_path / 'now', revisions.CASES[0], 0)
  assert 0 < found['processor time'] and 0 < found['seconds']
  assert 0.01 < found['peak'] < 1


def test_a_model_and_its_data_are_tuned_too(tmp_path):
  plain = [*revisions.cases(revisions.EXPERIMENT.run(tmp_path))]
  assert plain == [*revisions.CASES]
  run = revisions.EXPERIMENT.run(tmp_path, model='M', data='D')
  more = [case for case in revisions.cases(run) if case not in plain]
  assert [case.is_cold for case in more] == [True, False]
  assert all('--config.data.train=D/gsm8k-train.jsonl' in one.arguments for one in more)


def test_an_unknown_revision_ends(clone, tmp_path):
  with pytest.raises(subprocess.CalledProcessError):
    revisions.export('no-such-revision', tmp_path / 'now')


def test_what_a_run_has_measured_is_read(tmp_path):
  phases = {'evaluations': 2.0, 'truncation curve': 3.0, 'rounds': 7.0}
  result = {'phases': phases}
  (tmp_path / 'result.json').write_text(json.dumps(result))
  assert revisions.of_result(tmp_path) == {
    'evaluations and curve': 5.0,
    'rounds': 7.0,
  }


def test_the_table_has_a_line_a_figure(tmp_path):
  run = revisions.EXPERIMENT.run(tmp_path)
  about = dict(ratio=0.5, least=0.4, most=0.6, revision='abc', processor='P')
  run.results.keep([stamped(row('help: seconds', 1.0, 's', before=2.0, **about))])
  line = '| help: seconds | abc | P | 2.00 | 1.00 | s | 0.50 (0.40 to 0.60) |'
  assert revisions.table(run).splitlines()[2:] == [line]
