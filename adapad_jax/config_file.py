"""Looks at --config=FILE:OPTIONS before `ml_collections` does, for its messages.

That library names a wrong field alone, reads a file without `get_config` to the end of
a traceback, and takes whatever comes back from it.
"""

import ast
import importlib.machinery
import importlib.util
import pathlib
import re
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from adapad_jax.settings import did_you_mean

_FIELD = re.compile(r'--?(?:no)?config\.([^=\[]+)(?:=(.*))?', re.DOTALL)
_LONGEST = 200
_NONE = 'None'


class _OrNone(flags.ArgumentParser):
  """Reads 'None' as None, and everything else as another parser does."""

  def __init__(self, parser: flags.ArgumentParser) -> None:
    self._parser = parser
    self.syntactic_help = parser.syntactic_help

  def parse(self, argument: Any) -> Any:
    """The value; also one of the type, as defaults are given."""
    return None if argument == _NONE else self._parser.parse(argument)

  def flag_type(self) -> str:
    """Of the other parser."""
    return self._parser.flag_type()


# How a field of a type is read from the command line.
_READERS = {
  int: flags.IntegerParser(),
  float: flags.FloatParser(),
  bool: flags.BooleanParser(),
}


# Names that users of PEFT know.
_PEFT = {
  'r': 'config.lora.rank',
  'alpha': 'config.adapter.scale, as alpha / r',
  'lora_alpha': 'config.adapter.scale, as lora_alpha / r',
  'target_modules': 'config.adapter.targets',
  'use_rslora': 'config.lora.stabilized',
}


def take_none() -> None:
  """Lets `ml_collections` read None for fields of these types.

  Which of them may be None is said by `checked`, before that library reads any.
  """
  for kind, parser in _READERS.items():
    config_flags.register_flag_parser_for_type(kind, _OrNone(parser))


def checked(argv: Sequence[str]) -> list[str]:
  """The command line, its lists as Python writes them: a,b becomes ('a', 'b').

  Raises:
    ValueError: for a config file that gives no config, naming file and line; for a
      field that it does not have, or a text that is no value of it; or for a setting
      of a method that is not the run's.
  """
  argv = flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)
  given, names = _value_of('config', argv), [_FIELD.fullmatch(one) for one in argv]
  if given is None:
    if found := next(filter(None, names), None):
      raise ValueError(
        f'--config.{found[1]} changes a field of --config=FILE, which was not given; a'
        ' run in a --workdir keeps the config that it was begun with, an imported one'
        ' that of --mode=import; eval and predict choose other rows by --split=NAME or'
        ' --input=FILE'
      )
    return argv
  config = load(given)
  method = _value_of('config.method', argv) or config.get('method', 'adapad')
  for i, found in enumerate(names):
    if found is not None:
      default = _field(config, found[1], found[2])
      _require_of_method(config, found[1], method)
      if isinstance(default, tuple) and found[2]:
        argv[i] = f'--config.{found[1]}={_as_tuple(found[2])}'
  return argv


def _value_of(flag: str, argv: Sequence[str]) -> str | None:
  """The last --flag=VALUE or --flag VALUE."""
  found = None
  for i, one in enumerate(argv):
    name, equals, value = one.lstrip('-').partition('=')
    if one.startswith('-') and name == flag:
      found = value if equals else argv[i + 1] if i + 1 < len(argv) else ''
  return found


def load(given: str) -> ConfigDict:
  """What `get_config(OPTIONS)` of FILE:OPTIONS returns.

  Raises:
    ValueError: if there is no such file, or it returns no `ConfigDict`.
  """
  file, *options = given.split(':', 1)
  path = pathlib.Path(file)
  if not path.is_file():
    what = 'is a folder' if path.is_dir() else 'is not there'
    raise ValueError(
      f'--config={file}: the file {what}; give a Python file with a function'
      ' get_config, such as configs/glue.py in a clone of the project'
    )
  get_config = getattr(_execute(path), 'get_config', None)
  if not callable(get_config):
    raise ValueError(f'--config={file}: the file has no function get_config')
  config = _call(path, lambda: get_config(*options))
  if not isinstance(config, ConfigDict):
    raise ValueError(
      f'--config={file}: get_config returns {type(config).__name__}; it must return a'
      ' ml_collections.ConfigDict'
    )
  return config


def _execute(path: pathlib.Path) -> Any:
  loader = importlib.machinery.SourceFileLoader('config', str(path))
  spec = importlib.util.spec_from_loader('config', loader)
  module = importlib.util.module_from_spec(spec)
  _call(path, lambda: spec.loader.exec_module(module))
  return module


def _call(path: pathlib.Path, function: Callable[[], Any]) -> Any:
  """Runs code of the config file, in which anything may go wrong."""
  try:
    return function()
  except SyntaxError as error:
    at = ', line '.join(str(x) for x in (error.filename or path, error.lineno) if x)
    text = f': {error.text.strip()}' if error.text else ''
    raise ValueError(f'{at}: {error.msg}{text}') from error
  except ValueError as error:
    raise ValueError(f'--config={path}: {error}') from error
  except Exception as error:  # whatever a file of the user's may raise
    lines = [
      frame.lineno
      for frame in traceback.extract_tb(error.__traceback__)
      if frame.filename == str(path)
    ]
    at = f'{path}, line {lines[-1]}' if lines else str(path)
    said = ' '.join(str(error).split())[:_LONGEST]
    raise ValueError(f'{at}: {type(error).__name__}: {said}') from error


def _require_of_method(config: ConfigDict, dotted: str, method: str) -> None:
  """Refuses a setting of another method than the run's, which would not be read."""
  if config.get('program', 'finetune') != 'finetune':
    return
  from adapad_jax.methods import METHODS  # with jax, which --help does not wait for

  group = dotted.split('.')[0]
  # A method that does not exist is refused with the choices when the config is read.
  if group in METHODS and method in tuple(METHODS) and group != method:
    raise ValueError(
      f'--config.{dotted} is a setting of method {group!r}, but the method of this run'
      f' is {method!r}, which does not read it: add --config.method={group}, or leave'
      ' it out'
    )


def _field(config: ConfigDict, dotted: str, text: str | None) -> Any:
  """The field that a path leads to; refuses no field, and a text that is no value."""
  value, where, kind, optional = config, 'config', ConfigDict, False
  for name in dotted.split('.'):
    if not isinstance(value, ConfigDict):
      raise ValueError(f'{where} is a value, not a group of fields: there is no {name}')
    if name not in value:
      raise ValueError(
        f'unknown field {where}.{name}{_elsewhere(config, name)}'
        f'{did_you_mean(name, list(value))}'
      )
    # Of a field that nothing is in yet, the type that it takes.
    kind = value.get_type(name)
    held = dict(value.items(preserve_field_references=True))[name]
    optional = isinstance(held, FieldReference)
    value, where = value[name], f'{where}.{name}'
  if isinstance(value, ConfigDict) and not (text or '').startswith('{'):
    raise ValueError(
      f'{where} is a group of fields, set one of them: --{where}.FIELD=VALUE; choose'
      f' from {sorted(value)}'
    )
  if text is not None and kind in _READERS:
    _require_value(where, text, kind, optional)
  return value


def _require_value(where: str, text: str, kind: type, optional: bool) -> None:
  """Refuses a text that is no value of a field of that type."""
  if optional and text == _NONE:
    return
  try:
    _READERS[kind].parse(text)
  except ValueError as error:
    wanted = f'{kind.__name__} or None' if optional else kind.__name__
    raise ValueError(f'{where} must be of type {wanted}, got {text!r}') from error


def _elsewhere(config: ConfigDict, name: str) -> str:
  """Where else a field of that name is: '; there is config.train.batch'."""
  if name in _PEFT:
    return f'; what PEFT calls {name} is {_PEFT[name]}'
  found = [
    f'config.{group}.{name}'
    for group, fields in config.items()
    if isinstance(fields, ConfigDict) and name in fields
  ]
  return f'; there is {" and ".join(found)}' if found else ''


def _as_tuple(text: str) -> str:
  """A list as Python writes it; texts between commas need no quotes."""
  try:
    ast.literal_eval(text)
    return text
  except (ValueError, SyntaxError):
    return repr(tuple(part.strip() for part in text.split(',') if part.strip()))
