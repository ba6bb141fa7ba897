"""Which versions a run was made with."""

import importlib.metadata
import platform

_PACKAGES = (
  'adapad-jax',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'transformers',
  'numpy',
)


def versions() -> dict[str, str]:
  """Versions of Python and the packages that matter."""
  return {'python': platform.python_version()} | {n: _version(n) for n in _PACKAGES}


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'not installed'  # This project itself may run from a mere checkout.
