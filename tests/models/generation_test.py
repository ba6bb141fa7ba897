"""Generation against transformers' own, and its choices against closed forms."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adapad_jax.models import Head, generation, load, load_tokenizer
from tests.models import parity
from tests.models.decoder_test import make_pair, torch_config

transformers = pytest.importorskip('transformers')
torch = pytest.importorskip('torch')

Budget, Sampling = generation.Budget, generation.Sampling


@pytest.fixture(scope='module')
def pair():
  return make_pair(torch_config(tie_word_embeddings=True), Head('lm'), seed=5)


def test_greedy_equals_transformers_and_stops_where_it_does(pair):
  batch = parity.draw_batch(1, [6, 2, 4], 6, 300, left=True)
  free = parity.generate_of_torch(pair.reference, batch, Budget(12))
  stop = int(free[1, 4])  # a token that a row does produce on its way
  budget = Budget(12, stop_ids=(stop,), pad_id=0)
  stopped = generation.generate(pair.ours.model, batch, budget)
  np.testing.assert_array_equal(
    stopped, parity.generate_of_torch(pair.reference, batch, budget)
  )
  first = (free[1] == stop).argmax()
  assert stopped[1, first] == stop and not stopped[1, first + 1 :].any()
  endless = ~(free == stop).any(axis=1)
  assert endless.any()
  np.testing.assert_array_equal(stopped[endless], free[endless])


def test_padding_side_and_neighbours_do_not_matter(pair):
  left = parity.draw_batch(1, [6, 2, 4], 6, 300, left=True)
  right = {name: x.copy() for name, x in left.items()}
  for row, n in enumerate([6, 2, 4]):
    for x in right.values():
      x[row] = np.roll(x[row], n - 6)
  alone = {name: x[1:2, -2:] for name, x in left.items()}
  keys_B = jax.random.split(jax.random.key(1), 3)
  run = lambda batch, keys_B: generation.generate(
    pair.ours.model, batch, Budget(8), Sampling(temperature=1.0), keys_B
  )
  together = run(left, keys_B)
  np.testing.assert_array_equal(together, run(right, keys_B))
  np.testing.assert_array_equal(together[1:2], run(alone, keys_B[1:2]))


@pytest.mark.parametrize('family', ['Qwen2', 'Mistral', 'SmolLM3', 'Gemma3Text'])
def test_windows_and_layers_of_two_kinds_say_what_transformers_says(family):
  """Prompts and continuations longer than the window, on either side of padding."""
  tied = family == 'Gemma3Text'
  config = torch_config(family, pad_token_id=0, tie_word_embeddings=tied)
  pair = make_pair(config, Head('lm'), seed=8, scan=family != 'Mistral')
  batch, budget = parity.draw_batch(4, [9, 2, 7], 9, 300, left=True), Budget(10)
  expected = parity.generate_of_torch(pair.reference, batch, budget)
  assert len(np.unique(expected)) > 8
  said = generation.generate(pair.ours.model, batch, budget)
  np.testing.assert_array_equal(said, expected)
  for row, n in enumerate([9, 2, 7]):
    for x in batch.values():
      x[row] = np.roll(x[row], n - 9)
  said = generation.generate(pair.ours.model, batch, budget)
  np.testing.assert_array_equal(said, expected)


class Counted(nnx.Module):
  """A decoder that tells when its layers run."""

  def __init__(self, whole, tell):
    self.whole, self.tell = whole, tell

  def model(self, *args, **kwargs):
    jax.debug.callback(self.tell)
    return self.whole.model(*args, **kwargs)

  def token_logits(self, hidden_BLD):
    return self.whole.token_logits(hidden_BLD)


def test_the_last_token_is_not_read(pair):
  batch = parity.draw_batch(1, [6, 2], 6, 300)
  plain = generation.generate(pair.ours.model, batch, Budget(5))
  passes = []

  def passes_of(budget):
    passes.clear()
    model = Counted(pair.ours.model, lambda: passes.append(1))
    reading = generation.read(pair.ours.model, batch, budget.tokens - 1)
    found, _ = jax.jit(lambda reading: generation.extend(model, reading, budget))(
      reading
    )
    jax.effects_barrier()
    np.testing.assert_array_equal(found[:, 0], plain[:, 0])
    return len(passes)

  assert passes_of(Budget(5)) == 4
  assert passes_of(Budget(1)) == 0
  assert passes_of(Budget(5, stop_ids=tuple(int(t) for t in plain[:, 0]))) == 0


@jax.jit
def read_on(model, part, cache):
  hidden_BLD, cache = model.model(part, cache=cache)
  return model.token_logits(hidden_BLD), cache


def test_the_cache_reproduces_one_pass_over_the_whole_text(pair):
  model = pair.ours.model
  batch = parity.draw_batch(3, [9, 7], 9, 300)
  whole = parity.run(model, batch)
  cache = model.model.empty_cache(2, 9)
  for start, end in ((0, 4), (4, 5), (5, 9)):
    part = {name: jnp.asarray(x[:, start:end]) for name, x in batch.items()}
    logits, cache = read_on(model, part, cache)
    real = part['mask_BL'] > 0
    np.testing.assert_allclose(logits[real], whole[:, start:end][real], atol=1e-4)
  np.testing.assert_array_equal(cache.mask_BM, batch['mask_BL'])


@pytest.mark.parametrize('top_k,top_p', [(3, 1.0), (0, 0.6), (4, 0.5), (0, 1e-6)])
def test_restrictions_equal_transformers(top_k, top_p):
  logits = np.random.default_rng(0).standard_normal((5, 11)).astype(np.float32) * 2
  reference = torch.tensor(logits)
  if top_k:
    reference = transformers.TopKLogitsWarper(top_k)(None, reference)
  if top_p < 1:
    reference = transformers.TopPLogitsWarper(top_p)(None, reference)
  ours = generation.restrict(jnp.asarray(logits), Sampling(1.0, top_k, top_p))
  np.testing.assert_array_equal(ours, reference.numpy())


def test_sampled_frequencies_follow_the_tempered_distribution():
  logits_V = jnp.array([0.0, 1.0, 2.0, -1.0])
  rows = 4000
  keys_B = jax.random.split(jax.random.key(0), rows)
  sampling = Sampling(temperature=2.0, top_k=3)
  tokens = generation.choose(jnp.tile(logits_V, (rows, 1)), sampling, keys_B)
  weight = np.exp([0.0, 0.5, 1.0, -np.inf])
  expected = weight / weight.sum()
  frequency = np.bincount(tokens, minlength=4) / rows
  # Five standard deviations of a frequency over 4000 draws are below 0.04.
  np.testing.assert_allclose(frequency, expected, atol=0.04)
  assert frequency[3] == 0


def test_impossible_requests_are_refused_by_name(pair):
  model = pair.ours.model
  batch = parity.draw_batch(1, [6], 6, 300)
  with pytest.raises(ValueError, match='take 66 positions, the model has 64'):
    generation.generate(model, batch, Budget(60))
  with pytest.raises(ValueError, match='keys_B'):
    generation.generate(model, batch, Budget(2), Sampling(temperature=1.0))
  with pytest.raises(ValueError, match='at least one token'):
    generation.generate(model, {n: x * 0 for n, x in batch.items()}, Budget(2))
  with pytest.raises(ValueError, match='0 tokens'):
    Budget(0)
  with pytest.raises(ValueError, match='top_p=0'):
    Sampling(top_p=0)
  classifier = make_pair(torch_config(), Head('classification')).ours.model
  with pytest.raises(ValueError, match="'classification'"):
    generation.generate(classifier, batch, Budget(2))


def test_stories260k_writes_what_transformers_writes(shared):
  folder = str(shared / 'models' / 'stories260k')
  model = load(folder, Head('lm'), scan=True).model
  reference = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
  tokenizer = load_tokenizer(folder)
  prompts = ['Once upon a time', 'Lily and Ben went to the park. They', 'The dog']
  encoded = tokenizer(prompts, padding=True, padding_side='left', return_tensors='np')
  batch = {
    'ids_BL': encoded['input_ids'].astype(np.int32),
    'mask_BL': encoded['attention_mask'].astype(np.int32),
  }
  theirs = parity.outputs_of_torch(reference, batch)['logits'].detach().numpy()
  real = batch['mask_BL'] > 0
  ours = parity.run(model, batch)
  np.testing.assert_allclose(np.asarray(ours)[real], theirs[real], atol=1e-4)
  budget = Budget(60, stop_ids=(2,))
  new = generation.generate(model, batch, budget)
  np.testing.assert_array_equal(new, parity.generate_of_torch(reference, batch, budget))
  assert 'there was a little' in tokenizer.decode(new[0])


def test_the_documented_program_goes_on_with_prompts(shared, capsys):
  page = pathlib.Path(__file__).parents[2] / 'docs' / 'data.md'
  program = page.read_text().split('```python\n')[1].split('```')[0]
  names = {'FOLDER': str(shared / 'models' / 'stories260k')}
  exec(compile(program, str(page), 'exec'), names)
  likeliest, drawn = capsys.readouterr().out.splitlines()[-2:]
  assert 'there was a little' in likeliest and drawn != likeliest
  assert names['likeliest'].shape == names['drawn'].shape == (2, 20)


def test_scores_are_the_log_probabilities_of_what_is_said(pair):
  """Against torch's log-softmax over prompt and continuation, without a cache."""
  batch = parity.draw_batch(1, [6, 2, 4], 6, 300)
  model, budget = pair.ours.model, Budget(5)
  reading = generation.read(model, batch, budget.tokens)
  new_BT, score_B = generation.extend(model, reading, budget)
  forced_B = generation.log_probability(model, reading, new_BT, jnp.ones_like(new_BT))
  short_BT = jnp.asarray([[1, 1, 0, 0, 0]] * 3)
  first_B = generation.log_probability(model, reading, new_BT, short_BT)
  for row, length in enumerate([6, 2, 4]):
    prompt = batch['ids_BL'][row][batch['mask_BL'][row] > 0]
    whole = torch.tensor([*prompt.tolist(), *np.asarray(new_BT[row]).tolist()])
    with torch.no_grad():
      logits = pair.reference(input_ids=whole[None]).logits[0]
    shares = torch.log_softmax(logits, dim=-1)[length - 1 : -1]
    said = shares[torch.arange(5), whole[length:]].numpy()
    assert float(score_B[row]) == pytest.approx(said.sum(), abs=1e-4)
    assert float(forced_B[row]) == pytest.approx(said.sum(), abs=1e-4)
    assert float(first_B[row]) == pytest.approx(said[:2].sum(), abs=1e-4)


def test_a_row_without_a_prompt_says_nothing(pair):
  batch = parity.draw_batch(1, [6, 2], 6, 300)
  batch = {name: x.copy() for name, x in batch.items()}
  batch['ids_BL'][1], batch['mask_BL'][1] = 0, 0
  reading = generation.read(pair.ours.model, batch, 4)
  new_BT, score_B = generation.extend(pair.ours.model, reading, Budget(4, (), 7))
  assert (np.asarray(new_BT[1]) == 7).all() and float(score_B[1]) == 0
  assert float(score_B[0]) < 0
