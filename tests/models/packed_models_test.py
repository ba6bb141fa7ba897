"""Models whose kernels are packed, beside the same ones with the widened kernels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adapad_jax.adapters import choose, merge
from adapad_jax.adapters.locate import linears, parent_of
from adapad_jax.adapters.targets import Targets
from adapad_jax.models import Head, load, outline
from adapad_jax.models.quantised import FORMS, PackedLinear, Packing
from tests.interchange import kit

pytest.importorskip('torch')
HEAD = Head('classification')
# A scanned model holds the layers of a stack in one array.
CASES = [
  (family, tuple(FORMS)[number % 3], number % 2 == 1)
  for number, family in enumerate(kit.FAMILIES)
]


def widen(model, form, names):
  """Gives a plain model the kernels that a packed one computes with."""
  for name in names:
    parent, leaf, layer = parent_of(model, name)
    kernel = getattr(parent, leaf).kernel
    at = slice(None) if layer is None else layer
    kernel_IO = np.asarray(kernel[...][at])
    packing = Packing(form, len(kernel_IO))
    codes, scales = packing.pack(kernel_IO.T)
    scales = None if scales is None else jnp.asarray(scales)
    weight_OI = packing.unpack(jnp.asarray(codes), scales)
    kernel[...] = kernel[...].at[at].set(weight_OI.T)


def outputs_and_gradients(model, batch):
  """Logits, and the gradients in every norm that is trained nowhere here."""
  of_norms = lambda path, _: any('norm' in str(part).lower() for part in path)
  return run(*nnx.split(model, of_norms, ...), batch)


@functools.partial(jax.jit, static_argnums=0)
def run(graph, norms, others, batch):
  logits = lambda norms: nnx.merge(graph, norms, others)(batch)
  slope = jax.grad(lambda norms: jnp.sum(jnp.tanh(logits(norms))))
  return [logits(norms), *jax.tree.leaves(slope(norms))]


@pytest.mark.parametrize('family, form, scan', CASES)
def test_every_family_computes_with_the_widened_kernels(family, form, scan, tmp_path):
  folder = str(kit.make_random(family, tmp_path / family))
  plain, packed = (
    load(folder, HEAD, scan=scan, remat=scan, weights=weights) for weights in ('', form)
  )
  adapted = choose(packed.model, Targets(), packed.targets, packed.head_modules)
  assert adapted == choose(plain.model, Targets(), plain.targets, plain.head_modules)
  for name, layer in linears(packed.model).items():
    assert isinstance(layer, PackedLinear) == (name in adapted), name
  batch = kit.random_batch(50)
  before = outputs_and_gradients(plain.model, batch)
  widen(plain.model, form, adapted)
  want = outputs_and_gradients(plain.model, batch)
  found = outputs_and_gradients(packed.model, batch)
  assert len(found) > 3 and not np.array_equal(found[0], before[0])
  for x, y in zip(found, want, strict=True):
    np.testing.assert_allclose(x, y, atol=1e-5 * max(1, float(np.abs(y).max())))


def test_what_is_drawn_is_what_a_plain_model_draws(tmp_path):
  folder = str(kit.make_random('qwen3', tmp_path / 'model'))
  options = dict(random_weights=True, seed=5)
  plain = load(folder, HEAD, **options)
  packed = load(folder, HEAD, weights='nf4', **options)
  assert packed.initialised == plain.initialised
  batch = kit.random_batch(50)
  widen(plain.model, 'nf4', linears(plain.model).keys() - {'score'})
  want, found = (outputs_and_gradients(p.model, batch)[0] for p in (plain, packed))
  np.testing.assert_allclose(found, want, atol=1e-5)


def test_a_head_of_a_language_model_stays_as_it_is(tmp_path):
  folder = kit.make_random('mistral', tmp_path / 'model')
  outlined = outline(str(folder), Head('lm'), weights='int8')
  assert isinstance(outlined.model.lm_head, nnx.Linear)
  assert isinstance(outlined.model.model.layers[0].mlp.up_proj, PackedLinear)
  with pytest.raises(ValueError, match="unknown weights 'fp4'; choose from"):
    outline(str(folder), Head('lm'), weights='fp4')


def test_an_update_cannot_be_added_to_a_packed_kernel(tmp_path):
  folder = str(kit.make_random('qwen3', tmp_path / 'model'))
  base = load(folder, HEAD, weights='nf4')
  with pytest.raises(ValueError, match="down_proj is held as nf4, .*weights=''"):
    merge(base.model, kit.draw_adapter(base, ranks=(1,)))
