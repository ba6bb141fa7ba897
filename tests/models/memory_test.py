"""Loading takes little more memory than the parameters, whatever the file."""

import pathlib
import subprocess
import sys

import pytest

transformers = pytest.importorskip('transformers')
torch = pytest.importorskip('torch')

ROOT = pathlib.Path(__file__).parents[2]
# Peak resident memory, mapped files included, which `clear_refs` sets back.
PROGRAM = """
import pathlib, sys
FORMS = [('float32', ''), ('bfloat16', ''), ('bfloat16', 'int8'), ('bfloat16', 'nf4')]
import jax
from adapad_jax.models import Head, load

def resident(field):
  lines = pathlib.Path('/proc/self/status').read_text().splitlines()
  return next(int(x.split()[1]) for x in lines if x.startswith(field)) * 1024

kept = [load(sys.argv[1], Head('lm'))]  # freed memory would serve the next load

def ratio(folder, dtype, form):
  pathlib.Path('/proc/self/clear_refs').write_text('5')
  before = resident('VmRSS')
  model = load(folder, Head('lm'), dtype=dtype, weights=form, scan=bool(form)).model
  took = resident('VmHWM') - before
  kept.append(model)
  return took / sum(x.nbytes for x in jax.tree.leaves(model))

for folder in sys.argv[2:]:
  for dtype, form in FORMS:
    # Under memory pressure a load now and then takes pages that it does not need.
    print(min(ratio(folder, dtype, form) for _ in range(2)))
"""


def write(config, *folders):
  model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
  for folder in folders:
    model.save_pretrained(folder)
  return model


@pytest.mark.skipif(
  not pathlib.Path('/proc/self/clear_refs').exists(), reason='reads Linux counters'
)
def test_peak_is_below_1_2_times_the_parameters(tmp_path):
  tiny, safe, pickled = (tmp_path / name for name in ('tiny', 'safe', 'pickled'))
  sizes = dict(hidden_size=512, num_attention_heads=8, intermediate_size=1024)
  write(dict(vocab_size=9, num_hidden_layers=1) | sizes, tiny)
  # Half the parameters in one table, as in the small models of the real families.
  big = dict(vocab_size=48000, num_hidden_layers=8, tie_word_embeddings=True)
  model = write(big | sizes, safe, pickled)
  (pickled / 'model.safetensors').unlink()
  torch.save(model.state_dict(), pickled / 'pytorch_model.bin')
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, tiny, safe, pickled],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == 0, done.stderr
  ratios = [float(line) for line in done.stdout.split()]
  assert len(ratios) == 8
  assert max(ratios) < 1.2, ratios
  assert min(ratios) > 0.9, ratios  # the counters do see the parameters
