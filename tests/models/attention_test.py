"""Which kernel attention is left to, and that all of them say the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.models import attention, splash
from adapad_jax.models.masks import InFront, Mask, of_keys

FORM = Mask(lengths_B=jnp.ones(2, jnp.int32), causal=True)
DENSE = of_keys(jnp.ones((2, 8), jnp.int32))
BOTH_WAYS = Mask(lengths_B=jnp.ones(2, jnp.int32), reach=(4, 4))


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({}, 'cudnn'),
    ({'backend': 'cpu'}, 'xla'),
    ({'dtype': jnp.float32}, 'xla'),
    ({'lengths': (1, 64)}, 'xla'),  # One new token and a cache.
    ({'lengths': (33, 33)}, 'cudnn'),
    ({'lengths': (64, 33), 'mask': DENSE}, 'xla'),
    ({'lengths': (64, 32), 'mask': DENSE}, 'cudnn'),
    ({'lengths': (33, 33), 'mask': BOTH_WAYS}, 'xla'),
    ({'size': 12}, 'xla'),
    ({'size': 128}, 'cudnn'),
    ({'size': 136}, 'xla'),
    ({'size': 256}, 'xla'),
    ({'size': 256, 'capability': 9.0}, 'cudnn'),
    ({'size': 264, 'capability': 9.0}, 'xla'),
    ({'backend': 'tpu'}, 'xla'),
    ({'backend': 'tpu', 'size': 256, 'lengths': (256, 256)}, 'splash'),
    ({'backend': 'tpu', 'size': 128, 'lengths': (256, 128)}, 'xla'),
    ({'backend': 'tpu', 'size': 128, 'lengths': (256, 256), 'mask': DENSE}, 'xla'),
  ],
)
def test_a_kernel_is_asked_for_what_it_takes_alone(changes, expected):
  fits = dict(backend='gpu', capability=8.0, dtype=jnp.bfloat16, size=64)
  fits |= dict(lengths=(64, 64), mask=FORM)
  assert attention.implementation(**fits | changes) == expected


FORMS = {
  'causal': {'causal': True},
  'window': {'causal': True, 'reach': (9, 0)},
  'both ways': {},
  'local': {'reach': (7, 7)},
}


def draw(lengths, length, size, heads=4, groups=2, seed=0):
  rng = np.random.default_rng(seed)
  normal = lambda heads: jnp.asarray(
    rng.standard_normal((len(lengths), length, heads, size), np.float32)
  )
  real_BL = np.arange(length)[None] < np.array(lengths)[:, None]
  cotangent = normal(heads) * real_BL[:, :, None, None]
  return (normal(heads), normal(groups), normal(groups)), cotangent, real_BL


def outputs_and_gradients(attend, arrays, cotangent):
  """What attention gives, and the gradients of what it is given."""

  def total(arrays):
    out = attend(*arrays)
    return jnp.sum(out * cotangent), out

  grads, out = jax.jit(jax.grad(total, has_aux=True))(arrays)
  return out, grads


def by_a_loop(arrays, mask, lengths, scale, segments=None):
  """Attention in float64, a query at a time."""
  q_BLNH, k_BMGH, v_BMGH = (np.asarray(x, np.float64) for x in arrays)
  out = np.zeros_like(q_BLNH)
  for b, n in np.ndindex(q_BLNH.shape[0], q_BLNH.shape[2]):
    g = n * k_BMGH.shape[2] // q_BLNH.shape[2]
    for i in range(lengths[b]):
      seen = [
        j
        for j in range(lengths[b])
        if (not mask.causal or j <= i)
        and (mask.reach is None or -mask.reach[1] <= i - j <= mask.reach[0])
        and (segments is None or segments[b, i] == segments[b, j])
      ]
      scores = scale * k_BMGH[b, seen, g] @ q_BLNH[b, i, n]
      probs = np.exp(scores - scores.max())
      out[b, i, n] = probs / probs.sum() @ v_BMGH[b, seen, g]
  return out


@pytest.mark.parametrize('form', FORMS)
def test_forms_and_dense_masks_are_what_a_loop_gives(form):
  lengths, scale = [23, 14, 1], 0.3
  arrays, cotangent, real_BL = draw(lengths, 23, 8)
  mask = Mask(lengths_B=jnp.array(lengths, jnp.int32), **FORMS[form])
  attend = lambda mask, **options: outputs_and_gradients(
    lambda *qkv: attention.attention(*qkv, mask, scale=scale, **options),
    arrays,
    cotangent,
  )
  expected = by_a_loop(arrays, mask, lengths, scale)
  plain, grads = attend(mask)
  np.testing.assert_allclose(plain[real_BL], expected[real_BL], atol=1e-5)
  for other in (mask, Mask(mask.dense(23))):
    out, theirs = attend(other, fused=True)
    np.testing.assert_allclose(out[real_BL], expected[real_BL], atol=1e-5)
    assert np.isfinite(out).all()
    for one, two in zip(grads, theirs, strict=True):
      np.testing.assert_allclose(one, two, atol=1e-5)


def test_jax_is_told_the_form(monkeypatch):
  """Not a dense mask, of which a kernel could skip nothing."""
  arrays, _, _ = draw([12, 7], 12, 8)
  asked = []
  real = jax.nn.dot_product_attention

  def listening(*args, **options):
    asked.append(options)
    return real(*args, **options)

  monkeypatch.setattr(jax.nn, 'dot_product_attention', listening)
  mask = Mask(lengths_B=jnp.array([12, 7], jnp.int32), causal=True, reach=(3, 0))
  attention.attention(*arrays, mask, scale=1.0, fused=True)
  assert asked[0]['is_causal'] and asked[0]['local_window_size'] == (3, 0)
  assert asked[0]['query_seq_lengths'].tolist() == [12, 7]
  assert asked[0]['key_value_seq_lengths'].tolist() == [12, 7]
  assert 'mask' not in asked[0] and 'bias' not in asked[0]


@pytest.mark.parametrize('form', ['window', 'documents'])
def test_the_kernel_of_a_tpu_gives_the_same(form):
  """Interpreted, on this machine."""
  lengths, length = [200], 256
  arrays, cotangent, real_BL = draw(lengths, length, 128, heads=2, groups=1)
  mask = Mask(lengths_B=jnp.array(lengths, jnp.int32), **FORMS.get(form, {}))
  if form == 'documents':
    places = np.arange(length)[None] // 90 + 1
    segments_BL = jnp.asarray(np.where(real_BL, places, 0), jnp.int32)
    mask = Mask(lengths_B=mask.lengths_B, segments_BL=segments_BL, causal=True)
  kernel = lambda *qkv: splash.attend(*qkv, mask, 0.1, interpret=True)
  plain = lambda *qkv: attention.attention(*qkv, mask, scale=0.1)
  out, grads = outputs_and_gradients(kernel, arrays, cotangent)
  expected, theirs = outputs_and_gradients(plain, arrays, cotangent)
  np.testing.assert_allclose(out[real_BL], expected[real_BL], atol=1e-5)
  assert np.isfinite(out).all()
  for one, two in zip(grads, theirs, strict=True):
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_tokens_go_in_front_and_back():
  mask_BL = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]])
  x_BL2 = jnp.arange(32).reshape(4, 4, 2)
  front = InFront.of(jnp.asarray(mask_BL))
  assert front.lengths_B.tolist() == [2, 2, 2, 1]
  moved = front(x_BL2)
  np.testing.assert_array_equal(front.back(moved), x_BL2)
  for row in range(3):
    tokens = x_BL2[row][mask_BL[row] > 0]
    np.testing.assert_array_equal(moved[row, :2], tokens)
  np.testing.assert_array_equal(moved[0], x_BL2[0])


def test_the_softmax_keeps_its_rounded_result_alone():
  scores = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8, 8)), jnp.float32)
  probs, back = jax.vjp(lambda s: attention._narrow_softmax(s, jnp.bfloat16), scores)
  assert [(x.dtype, x.shape) for x in jax.tree.leaves(back)] == [
    (jnp.bfloat16, scores.shape)
  ]
  np.testing.assert_allclose(
    probs.astype(jnp.float32), jax.nn.softmax(scores), atol=2**-9
  )
  d = np.random.default_rng(1).normal(size=scores.shape).astype(np.float32)
  [ours] = jax.vjp(lambda s: attention._narrow_softmax(s, jnp.float32), scores)[1](d)
  [plain] = jax.vjp(jax.nn.softmax, scores)[1](d)
  np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
def test_bfloat16_differs_from_float32_by_rounding_alone(backend, monkeypatch):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  arrays, cotangent, _ = draw((16, 16), 16, 8)
  mask = Mask(lengths_B=jnp.array([16, 9], jnp.int32))
  narrow = [x.astype(jnp.bfloat16) for x in arrays]
  attend = lambda *qkv: attention.attention(*qkv, mask, scale=0.3)
  expected, wide = outputs_and_gradients(attend, arrays, cotangent)
  out, grads = outputs_and_gradients(attend, narrow, cotangent)
  close = lambda a, b: np.testing.assert_allclose(
    a.astype(jnp.float32), b, atol=0.02 * float(jnp.abs(b).max())
  )
  close(out, expected)
  for ours, theirs in zip(grads, wide, strict=True):
    assert ours.dtype == jnp.bfloat16
    close(ours, theirs)
