"""Bytes that a traced program holds at once, by the life of its arrays.

No compiler is asked, so the program may be for devices that are not here. An array is
held from the operation that makes it to the last one that reads it. What XLA makes on
the way to something else is not held: see `_Flat.is_held`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

# Operations whose inner program is part of the program around it.
_INLINED = frozenset(
  'jit pjit closed_call core_call checkpoint remat2 shard_map custom_jvp_call'
  ' custom_vjp_call custom_vjp_call_jaxpr'.split()
)
# Results that are their operand under another name: bitcasts, and what a product of
# matrices reads as it lies.
_SAME = frozenset(
  'reshape squeeze expand_dims transpose copy copy_p name optimization_barrier pvary'
  ' pcast reduced_vary_cast reshard relayout layout_constraint sharding_constraint'
  ' stop_gradient device_put'.split()
)
_REDUCING = frozenset(
  'reduce_sum reduce_max reduce_min reduce_and reduce_or reduce_prod argmax argmin'
  ' reduce'.split()
)
_ELEMENTWISE = frozenset(
  'abs acos acosh add add_any and asin asinh atan atan2 atanh bitcast_convert_type'
  ' broadcast_in_dim cbrt ceil clamp convert_element_type cos cosh div eq erf erf_inv'
  ' erfc exp exp2 expm1 floor ge gt integer_pow iota is_finite le log log1p log2'
  ' logistic lt max min mul ne neg nextafter not one_minus_square or pad polynomial'
  ' pow random_bits random_fold_in random_unwrap random_wrap reduce_precision rem rev'
  ' round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sign'
  ' sin sinh slice sqrt square sub tan tanh threefry2x32 xor'.split()
)
# Results may take the place of operands that nothing reads any more.
_IN_PLACE = _ELEMENTWISE | frozenset(
  'scan while cond dynamic_update_slice scatter scatter-add scatter_add psum'
  ' psum_invariant'.split()
)


def peak(program: ClosedJaxpr) -> int:
  """The most bytes that a device holds beside the program's arguments.

  Args:
    program: traced; inside `shard_map` shapes are those of one device.
  """
  return _peak(program.jaxpr)


@dataclasses.dataclass
class _Operation:
  """One that is not inlined; arrays are numbers.

  Attributes:
    name: of the primitive.
    reads, makes: arrays.
    inside: the most that is held within, for loops and branches.
  """

  name: str
  reads: list[int]
  makes: list[int]
  inside: int = 0


class _Flat:
  """A program as one list of operations.

  Attributes:
    operations: in the order in which they were traced.
    sizes: bytes of each array; of those that are not the program's own, 0.
    results: arrays that the program returns.
  """

  def __init__(self, jaxpr: Jaxpr, made: Sequence[Any]) -> None:
    self.operations: list[_Operation] = []
    self.sizes: list[int] = []
    names = {
      var: self._new(_nbytes(var.aval) if var in made else 0) for var in _of(jaxpr)
    }
    self._add(jaxpr, names)
    self.results = [names[v] for v in jaxpr.outvars if not isinstance(v, Literal)]
    self._drop_unread()
    self.readers: dict[int, list[int]] = {}
    self.maker: dict[int, int] = {}
    for at, operation in enumerate(self.operations):
      self.maker |= dict.fromkeys(operation.makes, at)
      for array in set(operation.reads):
        self.readers.setdefault(array, []).append(at)

  def _new(self, size: int) -> int:
    self.sizes.append(size)
    return len(self.sizes) - 1

  def _add(self, jaxpr: Jaxpr, names: dict[Any, int]) -> None:
    for eqn in jaxpr.eqns:
      name = eqn.primitive.name
      # A literal is a number that costs nothing.
      reads = [None if isinstance(v, Literal) else names[v] for v in eqn.invars]
      if name in _INLINED:
        made = self._inline(_inner(eqn), reads)
      elif name in _SAME:
        made = [self._new(0) if read is None else read for read in reads]
      else:
        made = [self._new(_nbytes(var.aval)) for var in eqn.outvars]
        known = [read for read in reads if read is not None]
        self.operations.append(_Operation(name, known, made, _inside(eqn)))
      names |= dict(zip(eqn.outvars, made, strict=False))

  def _inline(self, inner: Jaxpr, reads: list[int | None]) -> list[int]:
    given = [self._new(0) if read is None else read for read in reads]
    names = dict(zip(inner.invars, given, strict=True))
    names |= {var: self._new(0) for var in inner.constvars}
    self._add(inner, names)
    return [self._new(0) if isinstance(v, Literal) else names[v] for v in inner.outvars]

  def _drop_unread(self) -> None:
    """Leaves out what no result depends on, as XLA does."""
    needed, kept = set(self.results), []
    for operation in reversed(self.operations):
      if not needed.isdisjoint(operation.makes):
        needed |= set(operation.reads)
        kept.append(operation)
    self.operations = kept[::-1]

  @functools.cache  # noqa: B019  # lives as long as the list
  def is_held(self, array: int) -> bool:
    """Whether an array comes to lie in memory.

    The result of an elementwise operation does not if all that read it can compute it
    on the way, and that is one operation, or it is larger than what it is made of:
    masks, and what is only widened.
    """
    if array not in self.maker or array in self.results:
      return True
    if self.operations[self.maker[array]].name not in _ELEMENTWISE:
      return True
    readers = self.readers.get(array, [])
    fuse = _ELEMENTWISE | _REDUCING
    if any(self.operations[at].name not in fuse for at in readers):
      return True
    sources = sum(self.sizes[source] for source in self.sources(array))
    return len(readers) > 1 and self.sizes[array] <= sources

  @functools.cache  # noqa: B019
  def sources(self, array: int) -> frozenset[int]:
    """The arrays in memory that one which may not be held is computed from."""
    found: set[int] = set()
    if array in self.maker:
      for read in self.operations[self.maker[array]].reads:
        found |= {read} if self.is_held(read) else self.sources(read)
    return frozenset(found)

  def last_reads(self) -> dict[int, int]:
    """The operation after which each array in memory is not needed."""
    last = {array: at for array, at in self.maker.items() if self.is_held(array)}
    for at, operation in enumerate(self.operations):
      if any(map(self.is_held, operation.makes)):
        for read in operation.reads:
          held = [read] if self.is_held(read) else self.sources(read)
          last |= dict.fromkeys(held, at)
    return last | dict.fromkeys(self.results, len(self.operations))


def _peak(jaxpr: Jaxpr, made: Sequence[Any] = ()) -> int:
  """The same for a program of whose arguments some are its own to hold."""
  flat = _Flat(jaxpr, made)
  last = flat.last_reads()
  ends: dict[int, list[int]] = {}
  for array, at in last.items():
    ends.setdefault(at, []).append(array)
  size = lambda arrays: sum(flat.sizes[array] for array in arrays)
  held = sum(flat.sizes[: len(_of(jaxpr))])
  most = held
  for at, operation in enumerate(flat.operations):
    new = size(array for array in operation.makes if flat.is_held(array))
    ended = size(ends.get(at, ()))
    gone = min(ended, new) if operation.name in _IN_PLACE else 0
    most = max(most, held + new - gone + operation.inside)
    held += new - ended
  return most


def _inside(eqn: Any) -> int:
  """What a loop holds in a pass, or a branch, beside operands and results."""
  if eqn.primitive.name == 'scan':
    body = _inner(eqn)
    given = zip(eqn.invars, body.invars, strict=True)
    # Of what is scanned, a pass holds a slice, which has an axis less.
    sliced = [own for whole, own in given if whole.aval.ndim > own.aval.ndim]
    return _peak(body, sliced)
  if eqn.primitive.name == 'while':
    parts = ('cond_jaxpr', 'body_jaxpr')
    return max(_peak(eqn.params[part].jaxpr) for part in parts)
  if eqn.primitive.name == 'cond':
    return max(_peak(branch.jaxpr) for branch in eqn.params['branches'])
  return 0


def _inner(eqn: Any) -> Jaxpr:
  names = ('jaxpr', 'call_jaxpr', 'fun_jaxpr')
  inner = next(eqn.params[name] for name in names if name in eqn.params)
  return inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner


def _of(jaxpr: Jaxpr) -> list[Any]:
  """All that a program is given."""
  return [*jaxpr.constvars, *jaxpr.invars]


def _nbytes(aval: Any) -> int:
  return aval.size * getattr(aval.dtype, 'itemsize', 8) if hasattr(aval, 'dtype') else 0
