"""Strict settings for every test: four devices, no silent rank promotion."""

import ctypes
import gc
import importlib.metadata
import mmap
import os
import pathlib

import jaxlib.version

# Read when jax is first imported, also by the processes that tests start. Nearly all
# the time of a test is compilation: quick code need not be made, nor made twice.
os.environ.setdefault('HF_HUB_OFFLINE', '1')
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR', str(pathlib.Path.home() / '.cache/adapad_jax/tests')
)
# A program as one module of LLVM's: cut into up to 32, it takes half as long again.
_FLAGS = ['--xla_cpu_parallel_codegen_split_count=1']
if jaxlib.version.__version_info__ < (0, 11):  # Later ones have no older emitters.
  _FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ.setdefault('XLA_FLAGS', ' '.join(_FLAGS))

# Modules and tests stay to the end: the collector need not visit them again and again.
gc.disable()


import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')

# Linux lets a process map 65,530 pieces of memory, of which a compiled program takes
# several; one more, and reading a program from the cache on disk ends the process.
_MAPS, _MOST_MAPS = pathlib.Path('/proc/self/maps'), 20_000
# Pages of memory; about 0.9 GiB is what libraries and collected tests take.
_HELD, _MOST_HELD = pathlib.Path('/proc/self/statm'), 1.5 * 2**30 / mmap.PAGESIZE
SHARED = pathlib.Path(__file__).parents[2] / 'shared'
_STACK = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'transformers')


def pytest_report_header() -> str:
  """The releases that a log is about."""
  return ', '.join(f'{name} {importlib.metadata.version(name)}' for name in _STACK)


def pytest_collection_finish():
  """Leaves what is there before the first test to itself."""
  gc.collect()
  gc.freeze()
  # Tracing makes many objects, and few that are cyclic.
  gc.set_threshold(100_000, 20)
  gc.enable()


@pytest.fixture(scope='module', autouse=True)
def few_programs():
  """Lets compiled programs go after a module, where a process holds much."""
  yield
  if not _MAPS.exists():
    return
  maps, held = _MAPS.read_text().count('\n'), int(_HELD.read_text().split()[1])
  if maps > _MOST_MAPS or held > _MOST_HELD:
    jax.clear_caches()
    gc.collect()
    # Most of what is free lies between blocks in use, and glibc would keep it.
    if trim := getattr(ctypes.CDLL(None), 'malloc_trim', None):
      trim(0)


@pytest.fixture(scope='session')
def shared() -> pathlib.Path:
  """The folder of real data and models beside the checkout; skips without it."""
  if not SHARED.exists():
    pytest.skip(f'needs the real data and models in {SHARED.name}/')
  return SHARED


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> pathlib.Path:
  """The folder of a tiny model and a tiny task, made once for a module."""
  from tests import tiny

  folder = tmp_path_factory.mktemp('data')
  tiny.make_data(folder)
  return folder


@pytest.fixture(scope='session')
def chat_folder(tmp_path_factory) -> pathlib.Path:
  """The folder of a tiny chat model and questions to answer."""
  from tests import tiny_chat

  return tiny_chat.make_folder(tmp_path_factory.mktemp('chat'))


@pytest.fixture(scope='session')
def chat_run(chat_folder) -> pathlib.Path:
  """The workdir of a run that has learned most of these answers."""
  from adapad_jax.training import finetune_config, train
  from tests import tiny_chat

  workdir = chat_folder / 'run'
  train(finetune_config(tiny_chat.values(chat_folder, **tiny_chat.LEARNS)), workdir)
  return workdir
