"""Leaves out what packages bring in only because it is installed."""

import contextlib
import dataclasses
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Any


def leave_out(package: str, of: Sequence[str]) -> None:
  """Makes others take a package for not installed, while they are imported themselves.

  What asks for it later finds it. It stays in `sys.modules` only as long as that, since
  libraries look there for what is in use, and do not expect None.

  Args:
    package: that nothing here uses, 'torch'.
    of: packages that would import it.
  """
  sys.meta_path.insert(0, _Finder(package, tuple(of)))


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
  """None among the modules makes `import` fail and `find_spec` find nothing."""
  if package in sys.modules:
    yield
    return
  sys.modules[package] = None
  try:
    yield
  finally:
    del sys.modules[package]


@dataclasses.dataclass(frozen=True)
class _Finder(importlib.abc.MetaPathFinder):
  package: str
  of: tuple[str, ...]

  def find_spec(
    self, fullname: str, path: Any, target: Any = None
  ) -> importlib.machinery.ModuleSpec | None:
    """The spec that would be found otherwise, with the package hidden while it runs."""
    if fullname not in self.of:
      return None
    others = sys.meta_path[sys.meta_path.index(self) + 1 :]
    found = (finder.find_spec(fullname, path, target) for finder in others)
    spec = next(filter(None, found), None)
    if spec is not None and spec.loader is not None:
      spec.loader = _Loader(self.package, spec.loader)
    return spec


@dataclasses.dataclass(frozen=True)
class _Loader(importlib.abc.Loader):
  package: str
  own: Any

  def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
    """As the module's own loader does."""
    return self.own.create_module(spec)

  def exec_module(self, module: types.ModuleType) -> None:
    """Likewise, which the module then names as its loader."""
    module.__spec__.loader = module.__loader__ = self.own
    with _hidden(self.package):
      self.own.exec_module(module)
