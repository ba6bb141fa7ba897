"""What a compiled GPU program runs: kernels, with their operations and bytes.

The text of an optimised program names every kernel: on a GPU what XLA has not fused
away is launched by itself. A loop's kernels count as often as it turns.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

from experiments import hlo

Shapes = tuple[tuple[str, tuple[int, ...]], ...]

_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 's16': 2, 'u16': 2, 'f16': 2, 'bf16': 2}
_BYTES |= {'s32': 4, 'u32': 4, 'f32': 4, 's64': 8, 'u64': 8, 'f64': 8, 'token': 0}
# Names and parts of arrays, and what the compiler knows before the program runs.
_FREE = frozenset(
  'parameter constant get-tuple-element tuple bitcast after-all partition-id'
  ' replica-id copy-done opt-barrier add-dependency'.split()
)
# What moves or renames elements without computing any.
_MOVES = _FREE | frozenset(
  'broadcast copy reshape transpose slice concatenate pad reverse iota gather'
  ' dynamic-slice dynamic-update-slice copy-start'.split()
)
_SLICES = frozenset(('slice', 'dynamic-slice', 'gather'))
# Instructions of a thread for one element, in units of one addition in float32: special
# functions have an eighth of the units, integers half (CUDA C++ Programming Guide,
# throughput of native arithmetic instructions, compute capability 9.0). erf, and what
# has no instruction of its own, is a polynomial: about that many steps, an assumption.
_SPECIAL = dict.fromkeys(
  'exponential exponential-minus-one log log-plus-one rsqrt sqrt divide tanh logistic'
  ' sine cosine cbrt'.split(),
  8,
)
_SPECIAL |= {'erf': 24, 'power': 24, 'tan': 24, 'atan2': 24, 'remainder': 24}
_INTEGER = re.compile('[su](8|16|32|64)$')
_ARRAY = re.compile(r'([a-z]\w*)\[([\d,]*)\]')
_HEAD = re.compile(r'^\s*(ROOT )?%?([\w.\-]+) = ')
_OPERAND = re.compile(r'%([\w.\-]+)')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A line of a program.

  Attributes:
    name, op: of it, and what it does.
    shapes: (dtype, dimensions) of its result, several of a tuple.
    operands: names.
    about: all that follows them.
    is_root: whether it is the result of its computation.
  """

  name: str
  op: str
  shapes: Shapes
  operands: tuple[str, ...]
  about: str
  is_root: bool

  @property
  def size(self) -> int:
    """Elements of the result."""
    return sum(math.prod(dims) for _, dims in self.shapes)

  @property
  def bytes(self) -> int:
    """Bytes of the result."""
    return _size(self.shapes)

  @property
  def frame(self) -> int:
    """Number of the call that made it, 0 where none is known."""
    found = re.search(r'stack_frame_id=(\d+)', self.about)
    return int(found[1]) if found else 0

  @property
  def path(self) -> str:
    """What JAX calls it, with the transformations around it."""
    found = re.search(r'op_name="([^"]*)"', self.about)
    return found[1] if found else ''

  def called(self, role: str = 'calls') -> str:
    """The computation that it calls in this role, '' without one."""
    found = re.search(rf'\b{role}=%?([\w.\-]+)', self.about)
    return found[1] if found else ''


@dataclasses.dataclass(frozen=True)
class Kernel:
  """One that is launched.

  Attributes:
    name: of its instruction.
    times: launches in a run of the program.
    flops: of matrix products, by the dtype of their operands, in one launch.
    work: other instructions of threads, in additions in float32.
    read, written: bytes.
    hero: the instruction that it is there for: a product, else a reduction or what
      moves by index, else its result.
  """

  name: str
  times: int
  flops: dict[str, float]
  work: float
  read: int
  written: int
  hero: Instruction


def _size(shapes: Shapes) -> int:
  return sum(_BYTES.get(kind, 1) * math.prod(dims) for kind, dims in shapes)


def parse(text: str) -> tuple[dict[str, dict[str, Instruction]], str]:
  """The computations of a program, and the name of the one that is run."""
  found = {
    name: {one.name: one for one in map(_instruction, block.splitlines()) if one}
    for name, block in hlo.computations(text).items()
  }
  return found, re.search(r'^ENTRY %?([\w.\-]+)', text, re.MULTILINE)[1]


def _instruction(line: str) -> Instruction | None:
  head = _HEAD.match(line)
  if not head:
    return None
  rest = line[head.end() :]
  end = _closing(rest) if rest.startswith('(') else rest.index(' ')
  kind, rest = rest[:end], rest[end:].lstrip()
  op, _, rest = rest.partition('(')
  if not re.fullmatch(r'[\w\-]+', op):
    return None
  end = _closing('(' + rest) - 1
  shapes = tuple(
    (dtype, tuple(int(n) for n in dims.split(',') if n))
    for dtype, dims in _ARRAY.findall(kind)
  )
  operands = tuple(_OPERAND.findall(rest[:end]))
  about = rest[end:]
  if op == 'constant':
    operands = ()
  return Instruction(head[2], op, shapes, operands, about, bool(head[1]))


def _closing(text: str) -> int:
  """Where what the first parenthesis opens has ended."""
  depth = 0
  for at, letter in enumerate(text):
    depth += (letter == '(') - (letter == ')')
    if not depth:
      return at + 1
  raise ValueError(f'unbalanced: {text[:80]!r}')


def kernels(text: str) -> list[Kernel]:
  """All kernels of a program that was compiled for a GPU.

  Raises:
    ValueError: for a loop of which the compiler does not know how often it turns.
  """
  return list(_Program(text).kernels())


class _Program:
  """A parsed program, of which results are kept."""

  def __init__(self, text: str) -> None:
    self.computations, self.entry = parse(text)

  def kernels(self, name: str = '', times: int = 1) -> Iterator[Kernel]:
    """Those of a computation and of what it runs."""
    inside = self.computations[name or self.entry]
    for one in inside.values():
      if one.op == 'while':
        turns = re.search(r'"known_trip_count":\{"n":"(\d+)"', one.about)
        if not turns:
          raise ValueError(f'{one.name} turns an unknown number of times')
        yield from self.kernels(one.called('body'), times * int(turns[1]))
      elif one.op in ('call', 'async-start'):
        yield from self.kernels(one.called('to_apply') or one.called(), times)
      elif one.op == 'conditional':
        yield from self.kernels(one.called('true_computation'), times)
      elif one.op not in _FREE and not one.op.endswith(('-done', '-update')):
        yield self._kernel(one, inside, times)

  def _kernel(
    self, one: Instruction, around: dict[str, Instruction], times: int
  ) -> Kernel:
    own = self.computations.get(one.called()) if one.op == 'fusion' else None
    if own is None:
      read = sum(around[name].bytes for name in one.operands)
      if one.op in _SLICES:
        read = one.bytes
      # A library's second result is its scratch space.
      written = _size(one.shapes[:1] if one.op == 'custom-call' else one.shapes)
      if one.op == 'dynamic-update-slice':
        read = written = around[one.operands[1]].bytes
      flops, work = self._cost(one, around)
      return Kernel(one.name, times, flops, work, read, written, one)
    flops, work = self._costs(one.called())
    ops = list(self._all(own))
    read = sum(_read(parameter, own) for parameter in _parameters(own))
    written = _written(next(op for op in own.values() if op.is_root), own)
    return Kernel(one.name, times, flops, work, read, written, _hero(ops))

  def _all(self, own: dict[str, Instruction]) -> Iterator[Instruction]:
    for one in own.values():
      yield one
      if one.op == 'fusion':
        yield from self._all(self.computations[one.called()])

  @functools.cache  # noqa: B019  # lives as long as the program
  def _costs(self, name: str) -> tuple[dict[str, float], float]:
    """(operations of products by dtype, other work) of a fused computation."""
    own = self.computations[name]
    flops: dict[str, float] = {}
    work = 0.0
    for one in own.values():
      inner = self._costs(one.called()) if one.op == 'fusion' else self._cost(one, own)
      for dtype, count in inner[0].items():
        flops[dtype] = flops.get(dtype, 0.0) + count
      work += inner[1]
    return flops, work

  def _cost(
    self, one: Instruction, around: dict[str, Instruction]
  ) -> tuple[dict[str, float], float]:
    if one.op == 'dot' or (one.op == 'custom-call' and '__cublas' in one.about):
      left = around[one.operands[0]].shapes[0]
      dims = re.search(
        r'lhs_contracting_dim(?:s=|ension(?:s)?":)[\[{]([\d",]+)[\]}]', one.about
      )
      summed = math.prod(left[1][int(i)] for i in re.findall(r'\d+', dims[1]))
      return {left[0]: 2.0 * math.prod(one.shapes[0][1]) * summed}, 0.0
    if one.op in _MOVES or one.op == 'custom-call':
      return {}, 0.0
    first = around[one.operands[0]] if one.operands else one
    elements = first.size if one.op in ('reduce', 'scatter', 'reduce-window') else 0
    elements = elements or math.prod(one.shapes[0][1])
    each = _SPECIAL.get(one.op, 2 if _INTEGER.match(one.shapes[0][0]) else 1)
    return {}, float(each * elements)


def _parameters(own: dict[str, Instruction]) -> list[Instruction]:
  return [one for one in own.values() if one.op == 'parameter']


def _users(name: str, own: dict[str, Instruction]) -> list[Instruction]:
  """What reads an array, under whatever name."""
  found = []
  for one in own.values():
    if name in one.operands:
      found += _users(one.name, own) if one.op == 'bitcast' else [one]
  return found


def _read(parameter: Instruction, own: dict[str, Instruction]) -> int:
  """Bytes that a fusion reads of an operand: its slices, if it reads no more."""
  total, users = 0, _users(parameter.name, own)
  for user in users:
    source = _source(user.operands[0], own)
    if user.op in _SLICES and source == parameter.name:
      total += user.bytes
    elif user.op == 'dynamic-update-slice' and source == parameter.name:
      total += 0  # Written to in its place.
    else:
      return parameter.bytes
  return min(total, parameter.bytes)


def _written(root: Instruction, own: dict[str, Instruction]) -> int:
  """Bytes that a fusion writes: of an array updated in its place, the update."""
  if root.op == 'tuple':
    return sum(_written(own[name], own) for name in root.operands)
  made = own[_source(root.name, own)]
  if made.op == 'dynamic-update-slice':
    return own[made.operands[1]].bytes
  return root.bytes


def _source(name: str, own: dict[str, Instruction]) -> str:
  """What an array is before it was renamed."""
  while own[name].op == 'bitcast':
    name = own[name].operands[0]
  return name


def _hero(ops: list[Instruction]) -> Instruction:
  """The instruction that a fusion is there for."""
  ranks = (('dot', 'convolution'), ('scatter', 'gather', 'sort'), ('reduce',))
  for wanted in ranks:
    found = [one for one in ops if one.op in wanted]
    if found:
      return max(found, key=lambda one: one.size)
  roots = [one for one in ops if one.is_root]
  told = [one for one in (*roots, *ops) if one.frame and one.op not in _FREE]
  named = [one for one in (*roots, *ops) if one.path]
  return (told or named or roots)[0]


def frames(text: str) -> dict[int, tuple[str, ...]]:
  """Number of a call -> 'file:function' of it and of its callers, the innermost first.

  Read from the tables in front of a program; files without their folders.
  """
  files = _table(text, 'FileNames', r'(\d+) "([^"]*)"')
  functions = _table(text, 'FunctionNames', r'(\d+) "([^"]*)"')
  where = _table(
    text, 'FileLocations', r'(\d+) \{file_name_id=(\d+) function_name_id=(\d+)'
  )
  calls = _table(
    text, 'StackFrames', r'(\d+) \{file_location_id=(\d+) (?:parent_frame_id=(\d+))?'
  )
  found = {}
  for number in calls:
    names, at = [], number
    while at in calls and len(names) < 200:
      location, parent = calls[at]
      file, function = where[int(location)]
      names.append(
        f'{files[int(file)][0].split("/")[-1]}:{functions[int(function)][0]}'
      )
      at = int(parent or 0) if int(parent or 0) != at else 0
    found[number] = tuple(names)
  return found


def _table(text: str, name: str, line: str) -> dict[int, tuple[str, ...]]:
  found = re.search(rf'^{name}\n(.*?)\n\n', text, re.MULTILINE | re.DOTALL)
  lines = found[1].splitlines() if found else []
  return {
    int(m[1]): m.groups()[1:] for m in (re.match(line, one) for one in lines) if m
  }
