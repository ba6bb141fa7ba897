"""Sums over activations against plain numpy, hooks of torch, and a closed form."""

import numpy as np
import pytest

from adapad_jax import sharding
from adapad_jax.models import Head, load
from adapad_jax.reranking import activations, from_adapter, input_moments
from adapad_jax.reranking.activations import bytes_of_token, rows_of_batch
from tests.interchange import kit


@pytest.fixture(scope='module')
def base(shared):
  return load(str(shared / 'models/stories260k'), Head('classification', 3))


@pytest.fixture(scope='module')
def columns(base):
  batch = kit.encode(base, [*kit.TEXTS, 'One day, a girl named Lily went to the park.'])
  return batch | {'label_B': np.zeros(4)}


@pytest.fixture(scope='module')
def update(base):
  return from_adapter(base, kit.draw_adapter(base, ranks=(2, 3)))


@pytest.fixture(scope='module')
def hooked(update, base, columns, tmp_path_factory):
  """The same sums by forward hooks on a merged checkpoint in torch."""
  torch = pytest.importorskip('torch')
  from transformers import AutoModelForSequenceClassification as Auto

  from adapad_jax.interchange import Release, write_merged

  release = Release(kit.draw_adapter(base, ranks=(2, 3)), base, 'stories')
  folder = tmp_path_factory.mktemp('merged') / 'out'
  write_merged(release, folder, {k: v for k, v in columns.items() if k != 'label_B'})
  model = Auto.from_pretrained(str(folder))
  mask = columns['mask_BL'] > 0
  sums = {}

  def hook(name):
    def read(module, inputs, output):
      x_NI = inputs[0].detach().numpy()[mask]
      sums[name] = x_NI.T @ x_NI / len(x_NI)

    return read

  for name, module in model.named_modules():
    if name in update.deltas:
      module.register_forward_hook(hook(name))
  kit.torch_logits(model, {k: columns[k] for k in ('ids_BL', 'mask_BL')})
  assert torch.is_grad_enabled()
  return sums


@pytest.mark.parametrize('devices', [1, 4])
def test_moments_equal_those_of_torch_hooks(update, columns, hooked, devices):
  """Two batches of two rows, or one of four: padding never counts."""
  mesh = sharding.make_mesh(1, devices)
  found = input_moments(update.teacher, list(update.deltas), columns, mesh, rows=2)
  assert found.keys() == hooked.keys()
  for name, s_II in found.items():
    np.testing.assert_allclose(s_II, hooked[name], atol=1e-4 * np.abs(s_II).max())


def test_batches_are_as_large_as_memory_allows(base, columns, monkeypatch):
  longest = int(columns['mask_BL'].sum(axis=1).max())
  rows = lambda: rows_of_batch(base.model, columns, sharding.make_mesh(), 0)
  assert rows() == 64
  monkeypatch.setattr(activations, '_BYTES', 3 * longest * bytes_of_token(base.model))
  assert rows() == 3
  monkeypatch.setattr(activations, '_BYTES', 1)
  assert rows() == 1


def test_text_and_layers_are_checked(update, columns, base):
  nothing = {k: np.zeros_like(v) for k, v in columns.items()}
  with pytest.raises(ValueError, match='not a single token'):
    input_moments(update.teacher, list(update.deltas), nothing, sharding.make_mesh())
  scanned = load(str(base.source_dir), base.head, scan=True).model
  with pytest.raises(ValueError, match='scan=False'):
    input_moments(scanned, list(update.deltas), columns, sharding.make_mesh())
