"""Tests ../adapad_jax/linalg.py against numpy, and that nothing goes around it."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax import linalg
from adapad_jax.methods import METHODS
from tests import lapack
from tests.methods import toy
from tests.methods.methods_test import SETTINGS

ROOT = pathlib.Path(__file__).parents[1]
DRAW = np.random.default_rng(0).normal
WIDE, TALL = DRAW(size=(3, 2, 4, 6)).astype('f4'), DRAW(size=(3, 2, 6, 4)).astype('f4')
POSITIVE = TALL @ TALL.swapaxes(-1, -2) + np.eye(6, dtype='f4')
twice = lambda f: jax.jit(jax.vmap(jax.vmap(f)))


def close(got, want):
  np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize('x', [WIDE, TALL])
def test_qr_under_vmap_is_that_of_each_matrix(x):
  q, r = twice(linalg.qr)(x)
  close(q @ r, x)
  close(q.swapaxes(-1, -2) @ q, np.broadcast_to(np.eye(4), (3, 2, 4, 4)))
  close(r, np.triu(r))


@pytest.mark.parametrize('full', [False, True])
@pytest.mark.parametrize('x', [WIDE, TALL])
def test_svd_under_vmap_is_that_of_each_matrix(x, full):
  u, s, v = twice(lambda x: linalg.svd(x, full))(x)
  want = np.linalg.svd(x, full_matrices=full)
  assert (u.shape, s.shape, v.shape) == tuple(part.shape for part in want)
  close(s, want[1])
  close((u[..., :4] * s[..., None, :]) @ v[..., :4, :], x)


def test_factors_of_positive_matrices():
  lower = twice(linalg.cholesky)(POSITIVE)
  close(lower, np.linalg.cholesky(POSITIVE))
  w, v = twice(linalg.eigh)(POSITIVE)
  np.testing.assert_allclose(w, np.linalg.eigvalsh(POSITIVE), rtol=1e-4)
  np.testing.assert_allclose(
    (v * w[..., None, :]) @ v.swapaxes(-1, -2), POSITIVE, atol=1e-4
  )
  close(lower @ twice(linalg.solve_lower)(lower, TALL), TALL)
  back = twice(lambda lower, x: linalg.solve_lower(lower, x, True))(lower, TALL)
  np.testing.assert_allclose(lower.swapaxes(-1, -2) @ back, TALL, atol=1e-4)


@pytest.mark.parametrize('name', ['qr', 'svd', 'eigh', 'cholesky', 'solve_lower'])
def test_a_batch_is_refused_and_under_vmap_becomes_a_loop(name):
  function = getattr(linalg, name)
  args = (POSITIVE, POSITIVE) if name == 'solve_lower' else (POSITIVE,)
  with pytest.raises(ValueError, match=r'one matrix at a time, got shape \(3, 2, 6, 6'):
    function(*args)
  assert lapack.batched(jax.vmap(jax.vmap(function)), *args) == []
  # Beyond what the module covers, the search does find such calls.
  assert len(lapack.batched(jax.vmap(jnp.linalg.cholesky), POSITIVE[0])) == 1


def _sums_of_looks(method, states):
  """What a look of every run would give, in shapes."""
  mesh, (model, _) = toy.mesh_of((1, 1)), toy.network()
  look = jax.vmap(method.look(mesh), in_axes=(0, None, None, None))
  with jax.set_mesh(mesh):
    batch = {name: x[:1] for name, x in toy.batches().items()}
    batch = jax.device_put(batch, jax.NamedSharding(mesh, jax.P(None, 'data')))
    return jax.eval_shape(look, states, model, batch, np.int32(0))


@pytest.mark.parametrize('name', sorted(METHODS))
def test_no_program_of_a_method_factorises_a_batch(name):
  method = toy.build(name, SETTINGS.get(name), init='orthonormal')
  _, head = toy.network()
  assert lapack.batched(method.init, head) == []
  with jax.set_mesh(mesh := toy.mesh_of((1, 1))):
    assert lapack.batched(method.deploy, method.outline(head, mesh)) == []
  # As experiments/several_runs draws many runs at once.
  heads = jax.tree.map(lambda x: np.stack([x, x]), head)
  assert lapack.batched(jax.vmap(method.init), heads) == []
  if method.looks:
    states = jax.vmap(method.init)(heads)
    sums_Z = _sums_of_looks(method, states)
    assert lapack.batched(jax.vmap(method.inform), states, sums_Z) == []


# Four devices deploy on two cores, sixteen modules at once, lest XLA run the program in
# one thread: with batched calls this stood still in its first call, every time.
ENDLESS = """
import os
if hasattr(os, 'sched_setaffinity'):
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import jax, numpy as np
jax.config.update('jax_num_cpu_devices', 4)
from adapad_jax.lowrank import LowRank
from adapad_jax.lowrank.svd import by_singular_values

draw = lambda: np.random.default_rng(0).normal(size=(16, 96)).astype('f4')
start = {str(m): LowRank(draw(), draw()) for m in range(16)}
def again(start):
  return jax.lax.fori_loop(0, 50, lambda i, x: by_singular_values(x), start)
mesh = jax.make_mesh((4,), ('device',))
lie = jax.P()
run = jax.shard_map(again, mesh=mesh, in_specs=lie, out_specs=lie, check_vma=False)
there = jax.device_put(start, jax.NamedSharding(mesh, lie))
jax.block_until_ready(jax.jit(run)(there))
print('done')
"""


def test_factorisations_on_all_devices_at_once_come_to_an_end():
  # The threads of OpenBLAS itself only make the calls slower.
  env = os.environ | {'PYTHONPATH': str(ROOT), 'OPENBLAS_NUM_THREADS': '1'}
  ended = subprocess.run(
    [sys.executable, '-c', ENDLESS],
    env=env,
    timeout=180,
    capture_output=True,
    text=True,
  )
  assert ended.stdout == 'done\n', ended.stderr


def sources():
  """(name, text) of every Python file and every notebook of the project."""
  for folder in ('adapad_jax', 'configs', 'docs', 'experiments', 'notebooks'):
    for path in sorted((ROOT / folder).rglob('*.py')):
      yield path.relative_to(ROOT).as_posix(), path.read_text()
    for path in sorted((ROOT / folder).rglob('*.ipynb')):
      cells = json.loads(path.read_text())['cells']
      code = [''.join(c['source']) for c in cells if c['cell_type'] == 'code']
      plain = re.sub(r'(?m)^(\s*)[%!].*', r'\1pass', '\n'.join(code))
      yield path.relative_to(ROOT).as_posix(), plain


def test_lapack_is_called_in_one_place():
  found = {name: lapack.calls(text) for name, text in sources()}
  assert len(found) > 150 and any(name.endswith('.ipynb') for name in found)
  assert found.pop('adapad_jax/linalg.py')
  around = {name: lines for name, lines in found.items() if lines}
  assert not around, f'use adapad_jax.linalg, whose docstring says why: {around}'


@pytest.mark.parametrize(
  'source, want',
  [
    ('import jax.numpy as jnp\njnp.linalg.qr(x)', 'jax.numpy.linalg.qr'),
    ('import jax\njax.vmap(jax.numpy.linalg.svd)', 'jax.numpy.linalg.svd'),
    ('from jax import numpy as np\nnp.linalg.inv(x)', 'jax.numpy.linalg.inv'),
    ('from jax.numpy import linalg as la\nla.eigh(x)', 'jax.numpy.linalg.eigh'),
    ('from jax.numpy.linalg import pinv', 'jax.numpy.linalg.pinv'),
    ('import jax.scipy.linalg as s\ns.lu(x)', 'jax.scipy.linalg.lu'),
    ('import jax\njax.scipy.linalg.cho_solve', 'jax.scipy.linalg.cho_solve'),
    ('from jax import lax\nlax.linalg.svd(x)', 'jax.lax.linalg.svd'),
    ('import jax\njax.random.orthogonal(k, 3)', 'jax.random.orthogonal'),
    (
      'from flax import nnx\nnnx.initializers.orthogonal()',
      'flax.nnx.initializers.orthogonal',
    ),
    ('import jax.numpy as j\nj.linalg.norm(x, 2)', 'jax.numpy.linalg.norm with ord'),
    (
      'import jax.numpy as j\nj.linalg.norm(x, ord="nuc")',
      'jax.numpy.linalg.norm with ord',
    ),
    ('import numpy as np\nnp.linalg.svd(x)', None),
    ('import jax.numpy as jnp\njnp.linalg.norm(x, axis=1)', None),
    ('from adapad_jax import linalg\nlinalg.svd(x)', None),
  ],
)
def test_the_search_of_the_sources_knows_every_spelling(source, want):
  assert [name for _, name in lapack.calls(source)] == ([want] if want else [])
