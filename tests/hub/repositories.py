"""What lies on the test hub: tiny models and data in the layouts of public ones."""

import io
import json

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import safetensors.numpy
import sentencepiece
import tokenizers
import yaml

from adapad_jax.models import Head, family_of, outline, weights

WORDS = ('good', 'fine', 'great', 'bad', 'poor', 'awful', 'film', 'plot', 'cast')


def data_set(subsets):
  """Files of a repository of parquet files with a card.

  Args:
    subsets: by name, its splits: by name, (columns, class names of 'label' or None).
  """
  files, entries, infos = {}, [], []
  for subset, splits in subsets.items():
    listed = []
    for split, (columns, _) in splits.items():
      path = f'{subset}/{split}-00000-of-00001.parquet'
      files[path] = parquet(columns)
      listed.append({'split': split, 'path': f'{subset}/{split}-*'})
    entries.append({'config_name': subset, 'data_files': listed})
    features = _features(*next(iter(splits.values())))
    infos.append({'config_name': subset, 'features': features})
  card = yaml.safe_dump({'configs': entries, 'dataset_info': infos}, sort_keys=False)
  return files | {'README.md': f'---\n{card}---\n# A data set\n'}


def parquet(columns):
  """A parquet file of columns."""
  file = io.BytesIO()
  pyarrow.parquet.write_table(pa.table(columns), file)
  return file.getvalue()


def _features(columns, names):
  """The features of a card, as `datasets` writes them."""
  found = []
  for name, values in columns.items():
    if name == 'label' and names:
      labels = {str(i): one for i, one in enumerate(names)}
      found.append({'name': name, 'dtype': {'class_label': {'names': labels}}})
    elif name == 'answers':
      parts = [
        {'name': 'text', 'list': 'string'},
        {'name': 'answer_start', 'list': 'int32'},
      ]
      found.append({'name': name, 'struct': parts})
    else:
      kinds = {str: 'string', int: 'int64', float: 'float64'}
      found.append({'name': name, 'dtype': kinds[type(values[0])]})
  return found


def folder_files(folder):
  """All files of a folder, by name."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def opinions(rows):
  """Texts and labels, as a data set of two splits."""
  pick = lambda i: [WORDS[(i * 7 + k * 3) % 9] for k in range(4)]
  columns = lambda start, n: {
    'text': [' '.join(pick(start + i)) for i in range(n)],
    'label': [i % 2 for i in range(n)],
  }
  names = ('pos', 'neg')  # Not in the order of the alphabet.
  return data_set(
    {
      'default': {
        'train': (columns(0, rows), names),
        'dev': (columns(rows, rows // 2), names),
      }
    }
  )


def bert(**changes):
  """The configuration of a tiny BERT, and its vocabulary."""
  config = {
    'architectures': ['BertForMaskedLM'],
    'model_type': 'bert',
    'vocab_size': 5 + len(WORDS),
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 32,
    'max_position_embeddings': 32,
    'type_vocab_size': 2,
  }
  vocabulary = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *WORDS)
  settings = {'tokenizer_class': 'BertTokenizer', 'model_max_length': 32}
  return {
    'config.json': json.dumps(config | changes),
    'vocab.txt': '\n'.join(vocabulary) + '\n',
    'tokenizer_config.json': json.dumps(settings),
    'README.md': '# A model\n',
  }


def with_weights(files, folder, head=None):
  """The files of a model, and beside them weights for them, in safetensors.

  Args:
    files: configuration and tokenizer.
    folder: scratch; the model is outlined from there.
    head: also writes a head of that kind.
  """
  write(folder, files)
  return files | {'model.safetensors': safetensors.numpy.save(draw(folder, head))}


def draw(folder, head=None):
  """Tensors of a model under torch's names, those of the head only if it is given."""
  outlined = outline(str(folder), head or Head('span'))
  heads = () if head else tuple(f'{name}.' for name in outlined.head_modules)
  rng, slots = np.random.default_rng(0), weights.slots_of(outlined.model)
  return {
    name: rng.normal(0, 0.2, shape).astype(np.float32)
    for name, shape in weights.wanted_shapes(slots, family_of(outlined.family)).items()
    if not heads or not name.startswith(heads)
  }


SENTENCES = (
  'The old man read a long letter in the quiet room.',
  'Nobody in the city had seen the river so high.',
  'A small dog ran across the bridge and was gone.',
  'She wrote the answer on the board, twice, and sat down.',
)
NLI = ('entailment', 'not_entailment')
MNLI = ('entailment', 'neutral', 'contradiction')


def sentence(number):
  """A sentence of the test hub: one of four with a number behind it."""
  return f'{SENTENCES[number % 4]} {number % 5}'


def glue(rows=16):
  """nyu-mll/glue, of which three tasks are there, with few rows."""

  def pairs(first, second, start, labels):
    numbers = range(start, start + len(labels))
    columns = {
      first: [sentence(i) for i in numbers],
      second: [sentence(i + 1) for i in numbers],
    }
    return columns | {'label': list(labels), 'idx': list(numbers)}

  two = [i % 2 for i in range(rows)]
  score = [float(i % 6) for i in range(rows)]
  three = [i % 3 for i in range(rows)]
  hidden = [-1] * 4
  nli = lambda start, labels: (pairs('sentence1', 'sentence2', start, labels), NLI)
  sts = lambda start, labels: (pairs('sentence1', 'sentence2', start, labels), None)
  mnli = lambda start, labels: (pairs('premise', 'hypothesis', start, labels), MNLI)
  return data_set(
    {
      'mnli': {
        'train': mnli(0, three),
        'validation_matched': mnli(50, three[:8]),
        'validation_mismatched': mnli(70, three[:8]),
        'test_matched': mnli(90, hidden),
        'test_mismatched': mnli(95, hidden),
      },
      'rte': {
        'train': nli(0, two),
        'validation': nli(50, two[:8]),
        'test': nli(90, hidden),
      },
      'stsb': {
        'train': sts(0, score),
        'validation': sts(50, score[:8]),
        'test': sts(90, [-1.0] * 4),
      },
    }
  )


def squad(version, rows=12):
  """rajpurkar/squad or squad_v2, with few questions."""

  def questions(start, count):
    numbers = range(start, start + count)
    texts = [sentence(i) for i in numbers]
    # In v2.0 every third question has no answer.
    words = [
      text.split()[2] if version == 1 or i % 3 else None
      for i, text in zip(numbers, texts, strict=True)
    ]
    answers = [
      {
        'text': [word] if word else [],
        'answer_start': [text.index(word)] if word else [],
      }
      for word, text in zip(words, texts, strict=True)
    ]
    return {
      'id': [f'q{i}' for i in numbers],
      'title': [f't{i}' for i in numbers],
      'context': texts,
      'question': [f'What is the third word of {i}?' for i in numbers],
      'answers': answers,
    }

  split = lambda start, count: (questions(start, count), None)
  subset = 'plain_text' if version == 1 else 'squad_v2'
  return data_set(
    {subset: {'train': split(0, rows), 'validation': split(40, rows // 2)}}
  )


def deberta(folder):
  """microsoft/deberta-v3-base in small: half precision in torch's format, and more."""
  import torch

  config = {
    'model_type': 'deberta-v2',
    'attention_probs_dropout_prob': 0.1,
    'hidden_act': 'gelu',
    'hidden_dropout_prob': 0.1,
    'hidden_size': 16,
    'initializer_range': 0.02,
    'intermediate_size': 24,
    'layer_norm_eps': 1e-7,
    'max_position_embeddings': 512,
    'max_relative_positions': -1,
    'norm_rel_ebd': 'layer_norm',
    'num_attention_heads': 2,
    'num_hidden_layers': 1,
    'pos_att_type': 'p2c|c2p',
    'position_biased_input': False,
    'position_buckets': 8,
    'relative_attention': True,
    'share_att_key': True,
    'type_vocab_size': 0,
    'vocab_size': 96,
  }
  files = {
    'config.json': json.dumps(config),
    'tokenizer_config.json': json.dumps({'do_lower_case': False, 'vocab_type': 'spm'}),
    'spm.model': sentence_pieces(80),
    'README.md': '---\nlicense: mit\n---\n',
  }
  write(folder, files)
  tensors = draw(folder)
  size, words = config['hidden_size'], config['vocab_size']
  tensors |= {
    'deberta.embeddings.word_embeddings._weight': np.zeros((words, size)),
    'deberta.embeddings.position_embeddings.weight': np.zeros((512, size)),
    'lm_predictions.lm_head.bias': np.zeros(words),
    'lm_predictions.lm_head.dense.weight': np.zeros((size, size)),
    'mask_predictions.classifier.weight': np.zeros((1, size)),
  }
  saved = io.BytesIO()
  torch.save({name: torch.tensor(x).half() for name, x in tensors.items()}, saved)
  other = dict.fromkeys(('pytorch_model.generator.bin', 'tf_model.h5'), b'x' * 4096)
  return files | other | {'pytorch_model.bin': saved.getvalue()}


def qwen(folder):
  """Qwen/Qwen3-0.6B in small: bfloat16 safetensors, a chat template, a tied head."""
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  special = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=320,
    special_tokens=special,
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(SENTENCES, trainer)
  end = tokenizer.token_to_id('<|im_end|>')
  template = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content"
    " + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
  )
  config = {
    'architectures': ['Qwen3ForCausalLM'],
    'attention_bias': False,
    'attention_dropout': 0.0,
    'eos_token_id': end,
    'head_dim': 8,
    'hidden_act': 'silu',
    'hidden_size': 16,
    'initializer_range': 0.02,
    'intermediate_size': 24,
    'max_position_embeddings': 1024,
    'model_type': 'qwen3',
    'num_attention_heads': 2,
    'num_hidden_layers': 1,
    'num_key_value_heads': 1,
    'rms_norm_eps': 1e-6,
    'rope_theta': 1000000,
    'tie_word_embeddings': True,
    'torch_dtype': 'bfloat16',
    'vocab_size': tokenizer.get_vocab_size(),
  }
  settings = {
    'chat_template': template,
    'eos_token': '<|im_end|>',
    'model_max_length': 1024,
    'pad_token': '<|endoftext|>',
    'tokenizer_class': 'Qwen2Tokenizer',
  }
  files = {
    'config.json': json.dumps(config),
    'generation_config.json': json.dumps({'eos_token_id': end}),
    'tokenizer.json': tokenizer.to_str(),
    'tokenizer_config.json': json.dumps(settings),
    'README.md': '---\nlicense: apache-2.0\n---\n',
  }
  write(folder, files)
  tensors = draw(folder, Head('lm'))
  tensors['lm_head.weight'] = tensors['model.embed_tokens.weight']
  half = {name: x.astype(ml_dtypes.bfloat16) for name, x in tensors.items()}
  return files | {'model.safetensors': safetensors.numpy.save(half)}


def sentence_pieces(size):
  """A sentencepiece model, as DeBERTa's v3 has one."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([*SENTENCES, *WORDS]),
    model_writer=model,
    vocab_size=size,
    hard_vocab_limit=False,
    model_type='unigram',
    pad_id=0,
    bos_id=1,
    eos_id=2,
    unk_id=3,
    pad_piece='[PAD]',
    bos_piece='[CLS]',
    eos_piece='[SEP]',
    unk_piece='[UNK]',
    minloglevel=2,
  )
  return model.getvalue()


def write(folder, files):
  """Writes files, text or bytes, into a folder."""
  folder.mkdir(parents=True, exist_ok=True)
  for name, data in files.items():
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
