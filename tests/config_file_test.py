"""Tests ../adapad_jax/config_file.py: wrong config files and fields are named."""

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from adapad_jax.config_file import checked, load, take_none
from adapad_jax.methods import METHODS
from adapad_jax.training.config import finetune_config
from configs import sft

SFT = '--config=configs/sft.py:smollm2'
GLUE = '--config=configs/glue.py:quickstart'
FILES = {
  'dict': ('def get_config(): return {"a": 1}', 'get_config returns dict; it must'),
  'none': ('def get_config(): pass', 'get_config returns NoneType; it must return'),
  'nothing': ('x = 1', 'the file has no function get_config'),
  'number': ('get_config = 3', 'the file has no function get_config'),
  'syntax': ('\ndef get_config(:', r'file.py, line 2: .*: def get_config\(:'),
  'nul': (b'\0', 'file.py: .*null bytes'),
  'latin': (b'x = "\xe9"', 'file.py.*utf-8'),
  'import': ('\nimport foo_bar', "file.py, line 2: ModuleNotFoundError: No module .*'"),
  'locked': (
    'from configs.common import defaults\n'
    'def get_config():\n'
    '  c = defaults()\n'
    '  c.lock()\n'
    '  c.trian = 3\n',
    "file.py, line 5: AttributeError: .*'trian|file.py, line 5: AttributeError.*trian",
  ),
  'raises': (
    'def get_config():\n  raise ValueError("no such corpus")',
    '--config=.*file.py: no such corpus',
  ),
}


@pytest.mark.parametrize('name', FILES)
def test_a_file_that_gives_no_config_is_named_with_the_line(name, tmp_path):
  text, message = FILES[name]
  path = tmp_path / 'file.py'
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(ValueError, match=message) as caught:
    load(str(path))
  assert len(str(caught.value)) < 500


def test_what_is_no_file_is_named(tmp_path):
  with pytest.raises(ValueError, match='the file is a folder; give a Python file'):
    load(str(tmp_path))
  with pytest.raises(ValueError, match='nowhere.py: the file is not there; give'):
    checked(['main', '--config=nowhere.py:quick'])
  with pytest.raises(ValueError, match='give a Python file with a function get_config'):
    checked(['main', '--config'])


FIELDS = {
  '--config.train.epoch=3': "config.train.epoch; did you mean 'epochs'. choose from",
  '--config.trian.batch=3': "config.trian; did you mean 'train'. choose from",
  '--config.data.qa.overlapp=3': "config.data.qa.overlapp; did you mean 'overlap'",
  '--noconfig.model.scam': "config.model.scam; did you mean 'scan'",
  '--config.batch=3': 'config.batch; there is config.train.batch',
  '--config.train.batch.x=3': 'config.train.batch is a value, not a group',
  '--config.train=5': r"config.train is a group of fields, .*choose from \['accumulate",
  '--config.train.batch=1.5': "config.train.batch must be of type int, got '1.5'",
  '--config.train.epochs=few': "config.train.epochs must be of type float, got 'few'",
  '--config.model.scan=maybe': "must be of type bool or None, got 'maybe'",
  '--config.model.head_dropout=no': 'head_dropout must be of type float or None, got',
  '--config.train.batch=None': "config.train.batch must be of type int, got 'None'",
  '--config.lora.r=8': 'config.lora.r; what PEFT calls r is config.lora.rank',
  '--config.lora.lora_alpha=8': 'PEFT calls lora_alpha is config.adapter.scale, as',
  '--config.full.x=1': r'config.full.x; choose from \[\]',
}


@pytest.mark.parametrize('argument', FIELDS)
def test_a_wrong_field_is_named_with_its_choices(argument):
  with pytest.raises(ValueError, match=FIELDS[argument]):
    checked(['main', GLUE, argument])


def test_a_field_without_a_config_is_refused():
  with pytest.raises(ValueError, match='--config.train.batch changes a field of'):
    checked(['main', '--config.train.batch=3'])


@pytest.mark.parametrize(
  ('text', 'want'),
  [
    ('title,body', "('title', 'body')"),
    ('full text, body', "('full text', 'body')"),
    ('q.*,k', "('q.*', 'k')"),
    ('query', "('query',)"),
    ("('a', 'b')", "('a', 'b')"),
    ('16,32', '16,32'),
    ('', ''),
  ],
)
def test_lists_between_commas_need_no_quotes(text, want):
  got = checked(['main', GLUE, f'--config.data.text={text}', '--mode=train'])
  assert got == ['main', GLUE, f'--config.data.text={want}', '--mode=train']


def test_what_is_right_stays_as_it_is():
  argv = ['main', GLUE, '--config.train.batch=0x10', '--config.model.scan', '-v', '1']
  assert checked(argv) == argv
  assert checked(['main', '--config', 'configs/glue.py:rte', '--config.seed=3'])
  assert checked(['main', '--mode=info']) == ['main', '--mode=info']


def parsed(*arguments):
  """The config of instruction tuning as a command line changes it."""
  _, _, *argv = checked(['main', SFT, *arguments])
  take_none()
  config, values = sft.get_config('smollm2'), flags.FlagValues()
  config_flags.DEFINE_config_dict('config', config, flag_values=values, sys_argv=argv)
  values(['main', *argv])
  return finetune_config(config.to_dict())


def leaves(group, where=''):
  """(dotted name, value) of every field."""
  for name, value in group.items():
    if isinstance(value, ConfigDict):
      yield from leaves(value, f'{where}{name}.')
    else:
      yield f'{where}{name}', value


def test_every_field_can_be_set_to_what_it_is():
  config = sft.get_config('smollm2')
  fields = {
    name: value
    for name, value in leaves(config)
    if name.split('.')[0] not in METHODS or name.startswith('adapad.')
  }
  assert {'data.generation.stop', 'model.scan', 'adapad.live_buckets'} <= set(fields)
  got = parsed(*(f'--config.{name}={value}' for name, value in fields.items()))
  assert got == finetune_config(config.to_dict())


def test_lists_in_groups_in_groups_and_none():
  got = parsed('--config.data.generation.stop=###,END', '--config.model.scan=None')
  assert got.data.generation.stop == ('###', 'END')
  assert sft.get_config('smollm2').model.scan is True and got.model.scan is None
  fields = '--config.adapad.joint=0.5', '--config.adapad.joint=None'
  assert parsed(fields[0]).settings.joint == 0.5
  assert parsed(*fields).settings.joint is None


@pytest.mark.parametrize(
  'chosen', [(), ('--config.method=adalora',), ('--config.method', 'eva')]
)
def test_settings_of_another_method_are_refused(chosen):
  method = chosen[-1].rpartition('=')[2] if chosen else 'adapad'
  message = (
    f"--config.lora.rank is a setting of method 'lora', .* is '{method}', .*:"
    ' add --config.method=lora, or leave'
  )
  with pytest.raises(ValueError, match=message):
    checked(['main', GLUE, '--config.lora.rank=8', *chosen])


def test_settings_of_the_method_and_those_of_a_file_are_taken():
  argv = ['main', SFT, '--config.lora.rank=8', '--config.method=lora']
  assert checked(argv) == argv
  # The file sets fields of AdaPaD.
  assert checked(['main', f'{GLUE},published', '--config.method=lora'])
  argv = ['main', '--config=configs/regression.py', '--config.solver.learning_rate=1']
  assert checked(argv) == argv
