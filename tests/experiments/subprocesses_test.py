"""Tests ../../experiments/subprocesses.py."""

import pytest

from experiments.subprocesses import call


def test_the_last_line_is_read(tmp_path, monkeypatch):
  (tmp_path / 'told.py').write_text(
    'import json, os, sys, time\n'
    'print("something else")\n'
    'time.sleep(float(sys.argv[2]))\n'
    'print(json.dumps({"given": sys.argv[1], "heard": os.environ["HEARD"]}))\n'
    'sys.exit("no luck" if sys.argv[1] == "bad" else 0)\n'
  )
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  env = {'HEARD': 'yes'}
  assert call('told', 'good', '0', env=env) == {'given': 'good', 'heard': 'yes'}
  with pytest.raises(RuntimeError, match='told bad 0 failed: no luck'):
    call('told', 'bad', '0', env=env)
  with pytest.raises(RuntimeError, match='told was not done after 1 s'):
    call('told', 'good', '60', env=env, timeout=1)
