"""Tests ../adapad_jax/freed_memory.py."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax import freed_memory
from adapad_jax.training import loop
from adapad_jax.training.progress import Progress
from adapad_jax.training.watchdog import Watchdog

ROOT = pathlib.Path(__file__).parents[1]
LIBC = freed_memory._libc()
keeps = pytest.mark.skipif(
  freed_memory.environment({}, LIBC) is None, reason='needs glibc 2.35 or later'
)
# Prints what the process that reads it was given; then the mode goes on with it.
CONFIG = f"""
import os, sys
print('GIVEN', os.environ.get('GLIBC_TUNABLES'), os.getpid(), flush=True)
sys.path.insert(0, {str(ROOT)!r})
from configs.glue import get_config
"""


def test_nothing_but_the_tunables_is_added():
  found = freed_memory.environment({'PATH': '/bin'}, 'glibc 2.36')
  assert found == {'PATH': '/bin', 'GLIBC_TUNABLES': freed_memory.TUNABLES}


@pytest.mark.parametrize(
  'given',
  [
    {'ADAPAD_JAX_KEEP_FREED': '0'},
    {'GLIBC_TUNABLES': 'glibc.malloc.check=1'},
    {'GLIBC_TUNABLES': ''},
    {'LD_PRELOAD': 'libjemalloc.so'},
    {'MALLOC_ARENA_MAX': '2'},
  ],
)
def test_what_the_user_has_chosen_stays(given):
  assert freed_memory.environment(given, 'glibc 2.36') is None
  assert freed_memory.environment({'ADAPAD_JAX_KEEP_FREED': '1'}, 'glibc 2.36')


@pytest.mark.parametrize(
  ('libc', 'can'),
  [('glibc 2.34', 0), ('glibc 2.35', 1), ('glibc 3.0', 1), ('musl', 0), ('', 0)],
)
def test_only_a_c_library_that_can_is_told(libc, can):
  assert (freed_memory.environment({}, libc) is not None) == can


def test_a_process_that_another_module_began_goes_on(monkeypatch):
  replaced = []
  monkeypatch.setattr(os, 'execve', lambda *args: replaced.append(args))
  monkeypatch.setattr(freed_memory, '_libc', lambda: 'glibc 2.36')
  for name in ('GLIBC_TUNABLES', 'LD_PRELOAD', freed_memory.SWITCH):
    monkeypatch.delenv(name, raising=False)
  for name in [name for name in os.environ if name.startswith('MALLOC_')]:
    monkeypatch.delenv(name)
  for argv in (
    ['python', '-m', 'ipykernel_launcher'],
    ['python', 'adapad_jax.main'],
    ['python', '-m', 'pdb', '-m', 'adapad_jax.main'],
  ):
    monkeypatch.setattr(sys, 'orig_argv', argv)
    freed_memory.start_again('adapad_jax.main')
  assert not replaced
  argv = ['python', '-X', 'dev', '-m', 'adapad_jax.main', '--mode=info']
  monkeypatch.setattr(sys, 'orig_argv', argv)
  freed_memory.start_again('adapad_jax.main')
  [(program, again, env)] = replaced
  assert (program, again) == (sys.executable, argv)
  assert env['GLIBC_TUNABLES'] == freed_memory.TUNABLES


def given(tmp_path, env):
  """The tunables that the command is run with, and whether it kept its process."""
  config = tmp_path / 'config.py'
  config.write_text(CONFIG, encoding='utf-8')
  base = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_')}
  base.pop('GLIBC_TUNABLES', None)
  command = [sys.executable, '-m', 'adapad_jax.main', '--mode=info']
  process = subprocess.Popen(
    [*command, f'--config={config}:quickstart'],
    env=base | env,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
  )
  text, _ = process.communicate(timeout=300)
  assert process.returncode == 0, text
  [line] = {line for line in text.splitlines() if line.startswith('GIVEN')}
  _, tunables, pid = line.split()
  return tunables, int(pid) == process.pid


@keeps
def test_the_command_line_starts_itself_again_in_the_same_process(tmp_path):
  assert given(tmp_path, {}) == (freed_memory.TUNABLES, True)
  assert given(tmp_path, {'ADAPAD_JAX_KEEP_FREED': '0'}) == ('None', True)


@pytest.fixture
def trims(monkeypatch):
  """Filled when memory is given back by a process that keeps it."""
  trims = []
  monkeypatch.setattr(freed_memory, 'trim', lambda: trims.append(1))
  monkeypatch.setenv('GLIBC_TUNABLES', freed_memory.TUNABLES)
  return trims


@pytest.fixture
def listeners():
  """JAX's listeners, put back at the end."""
  listeners = jax._src.monitoring._event_duration_secs_listeners
  before = list(listeners)
  freed_memory.prepare_jax.cache_clear()
  yield listeners
  listeners[:] = before
  freed_memory.prepare_jax.cache_clear()


@pytest.fixture
def dispatch():
  """JAX's setting, put back at the end."""
  before = jax.config.values['jax_cpu_enable_async_dispatch']
  yield
  jax.config.update('jax_cpu_enable_async_dispatch', before)


@pytest.mark.usefixtures('dispatch')
def test_long_compilations_are_given_back(monkeypatch, trims, listeners):
  monkeypatch.setattr(freed_memory, '_LONG', 0.0)
  before = len(listeners)
  freed_memory.prepare_jax()
  freed_memory.prepare_jax()
  assert len(listeners) == before + 1
  assert jax.config.values['jax_cpu_enable_async_dispatch'] is False
  # The name of JAX's event is its own: programs of this test alone are compiled.
  jax.jit(lambda x: jnp.cos(x) * 1.2345678)(jnp.ones(3)).block_until_ready()
  found = len(trims)
  assert found
  monkeypatch.setattr(freed_memory, '_LONG', 1e6)
  jax.jit(lambda x: jnp.sin(x) * 1.2345678)(jnp.ones(3)).block_until_ready()
  assert len(trims) == found


def test_only_what_is_kept_is_given_back(monkeypatch, trims):
  freed_memory.give_back()
  assert len(trims) == 1
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.check=1')
  freed_memory.give_back()
  monkeypatch.delenv('GLIBC_TUNABLES')
  freed_memory.give_back()
  assert len(trims) == 1


def rounds_that_give_back(monkeypatch, last, pauses):
  """The rounds during which the loop gives memory back."""
  found = []
  progress = Progress(0)
  monkeypatch.setattr(freed_memory, 'give_back', lambda: found.append(progress.step))
  advance = lambda state, batch: (state, {'loss': np.zeros(())})
  every = loop.rounds(
    advance, lambda step: step, progress, last, Watchdog(0), pause=pauses.__contains__
  )
  assert [number for number, _ in every] == list(range(1, last + 1))
  return found


def test_a_loop_gives_back_while_it_settles(monkeypatch):
  # After its start, and after every pause, in which something else may have computed.
  assert rounds_that_give_back(monkeypatch, 9, {5}) == [1, 2, 6, 7]
  assert rounds_that_give_back(monkeypatch, 1, {1}) == [1]


def printed(code, tunables):
  """The number that a fresh process prints."""
  env = {'GLIBC_TUNABLES': tunables, 'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''}
  done = subprocess.run(
    [sys.executable, '-c', code],
    env=os.environ | env,
    stdout=subprocess.PIPE,
    text=True,
    timeout=300,
    check=True,
  )
  return float(done.stdout)


# Pages that the kernel clears while a block of 64 MiB is taken ten times.
TAKES = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def take():
  block = libc.malloc(1 << 26)
  ctypes.memset(block, 1, 1 << 26)
  libc.free(block)
take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
  take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@keeps
def test_freed_blocks_are_not_cleared_again():
  kept, freed = (printed(TAKES, each) for each in (freed_memory.TUNABLES, ''))
  assert freed >= 10 * (1 << 26) // 2**21  # At least one for every huge page.
  assert kept < 0.1 * freed


# Gigabytes that a process holds at most whose steps have 256 MiB of temporaries.
STEPS = """
import resource
from adapad_jax import freed_memory
freed_memory.prepare_jax()
import jax
import jax.numpy as jnp
barrier = jax.lax.optimization_barrier
@jax.jit
def step(x):
  y = barrier(jnp.outer(x, x))
  return jnp.sum(barrier(y * 2), 0) / 2
x = jnp.ones(8192, jnp.float32) / 8192
for _ in range(4):
  x = step(x)
x.block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@keeps
def test_steps_sent_off_together_do_not_add_up():
  # Two arrays of 256 MiB a step, of which the process would keep those of all steps.
  kept, freed = (printed(STEPS, each) for each in (freed_memory.TUNABLES, ''))
  assert kept < 1.1 * freed
