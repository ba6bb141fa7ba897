"""Finds calls of LAPACK: in source text by its names, in programs by what they do."""

import ast

import jax

# Members of a `linalg` module that factorise nothing.
HARMLESS = ('cross', 'diagonal', 'matmul', 'matrix_transpose', 'outer', 'tensordot')
HARMLESS += ('trace', 'vecdot', 'vector_norm')
# What factorises under another name.
DISGUISED = ('delta_orthogonal', 'multivariate_normal', 'orthogonal', 'polyfit')
DISGUISED += ('roots',)
# Primitives of jax that are LAPACK on the CPU.
PRIMITIVES = ('cholesky', 'cholesky_update', 'eig', 'eigh', 'geqp3', 'geqrf')
PRIMITIVES += ('hessenberg', 'householder_product', 'lu', 'ormqr', 'qr', 'schur', 'svd')
PRIMITIVES += ('triangular_solve', 'tridiagonal', 'tridiagonal_solve')


def calls(source: str) -> list[tuple[int, str]]:
  """(line, dotted name) of whatever of jax or flax factorises a matrix."""
  tree = ast.parse(source)
  names, found = {}, []
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      for one in node.names:
        whole = one.name if one.asname else one.name.split('.')[0]
        names[one.asname or whole] = whole
    elif isinstance(node, ast.ImportFrom) and not node.level:
      for one in node.names:
        names[one.asname or one.name] = f'{node.module}.{one.name}'
        if _factorises(f'{node.module}.{one.name}'):
          found.append((node.lineno, f'{node.module}.{one.name}'))
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and (path := _dotted(node, names)):
      if _factorises(path):
        found.append((node.lineno, path))
    elif isinstance(node, ast.Call):
      path = _dotted(node.func, names)
      # A norm of matrices may be one of singular values.
      orders = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == 'ord')]
      if path and _is_norm(path) and orders:
        found.append((node.lineno, f'{path} with ord'))
  return sorted(set(found))


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
  """jax.numpy.linalg.qr for jnp.linalg.qr; '' for what is no such chain."""
  parts = []
  while isinstance(node, ast.Attribute):
    parts.append(node.attr)
    node = node.value
  if not isinstance(node, ast.Name) or node.id not in names:
    return ''
  return '.'.join([names[node.id], *reversed(parts)])


def _is_norm(path: str) -> bool:
  return path.split('.')[0] == 'jax' and path.endswith('.linalg.norm')


def _factorises(path: str) -> bool:
  root, *middle, last = path.split('.')
  if root not in ('jax', 'flax', 'optax') or 'sparse' in middle:
    return False
  inside = bool(middle) and middle[-1] == 'linalg'
  return (inside and last not in (*HARMLESS, 'norm')) or last in DISGUISED


def batched(function, *args) -> list[str]:
  """LAPACK primitives of a program that take more than one matrix at once."""
  return sorted(_batched(jax.make_jaxpr(function)(*args).jaxpr))


def _batched(jaxpr) -> set[str]:
  found = set()
  for eqn in jaxpr.eqns:
    if eqn.primitive.name in PRIMITIVES and any(x.aval.ndim > 2 for x in eqn.invars):
      found.add(str(eqn))
    for value in jax.tree.leaves(list(eqn.params.values())):
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        found |= _batched(inner)
  return found
