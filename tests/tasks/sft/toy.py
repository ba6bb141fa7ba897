"""A byte-level tokenizer, the chat templates of four families, and helpers."""

import functools
import json

from adapad_jax.tasks.sft.encode import Encoder
from adapad_jax.tasks.sft.masks import mark
from adapad_jax.tasks.sft.shown import marked
from adapad_jax.tasks.sft.template import load_template

# Written from what the families' formats are, in the fewest statements.
CHATML = (
  "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content +"
  " '<|im_end|>\\n' }}{%- endfor %}"
  "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
MARKED = (
  "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
  "{%- if m.role == 'assistant' %}{%- generation %}{{- m.content + '<|im_end|>' }}"
  "{%- endgeneration %}{%- else %}{{- m.content + '<|im_end|>' }}{%- endif %}"
  "{{- '\\n' }}{%- endfor %}"
)
LLAMA3 = (
  '{{- bos_token }}{%- for m in messages %}'
  "{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim +"
  " '<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}"
  "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
GEMMA = (
  "{{- bos_token }}{%- if messages[0].role == 'system' %}"
  "{{- raise_exception('no system role') }}{%- endif %}{%- for m in messages %}"
  "{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' +"
  " m.content | trim + '<end_of_turn>\\n' }}{%- endfor %}"
  "{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"
)
MISTRAL = (
  "{{- bos_token }}{%- for m in messages %}{%- if m.role == 'assistant' %}"
  "{{- ' ' + m.content + eos_token }}{%- else %}"
  "{{- '[INST] ' + m.content + ' [/INST]' }}{%- endif %}{%- endfor %}"
)
# Shows the thinking of the last turn alone, as Qwen3's does.
THINKING = (
  "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
  "{%- if m.role == 'assistant' %}{%- set said = m.content.split('</think>') %}"
  '{%- if loop.last %}'
  "{{- '<think>\\n' + (said[0].split('<think>')[-1].strip() if said | length > 1"
  " else '') + '\\n</think>\\n\\n' }}{%- endif %}{{- said[-1].lstrip('\\n') }}"
  "{%- else %}{{- m.content }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
  "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
  "{%- if quiet %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
# Of a family whose tokens this tokenizer does not know.
WRITTEN = CHATML.replace('<|im_', '<<')
SPECIAL = (
  '<s>',
  '</s>',
  '<|im_start|>',
  '<|im_end|>',
  '<|start_header_id|>',
  '<|end_header_id|>',
  '<|eot_id|>',
  '<start_of_turn>',
  '<end_of_turn>',
)
WORDS = ('Hi', 'Hello', 'Yes', 'No')


def tokenizer(
  template='', *, eos='</s>', bos=False, end=True, gpt2=False, adds_end=False
):
  """Bytes, two line breaks as one token, and a few words."""
  from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
  from transformers import PreTrainedTokenizerFast

  letters = sorted(pre_tokenizers.ByteLevel.alphabet())
  vocabulary = {letter: i for i, letter in enumerate(letters)}
  merges = [('Ċ', 'Ċ')]
  for word in WORDS:
    for i in range(1, len(word)):
      merges.append((word[:i], word[i]))
  for pair in merges:
    vocabulary.setdefault(''.join(pair), len(vocabulary))
  made = Tokenizer(models.BPE(vocabulary, list(dict.fromkeys(merges))))
  # Llama 3 and Qwen keep line breaks together; GPT-2 keeps one for the text behind.
  lines = pre_tokenizers.Split(Regex(r'\s*[\r\n]+| ?[^\s]+|\s+'), 'isolated')
  letters_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=gpt2)
  made.pre_tokenizer = (
    letters_of if gpt2 else pre_tokenizers.Sequence([lines, letters_of])
  )
  made.decoder = decoders.ByteLevel()
  made.post_processor = processors.ByteLevel(trim_offsets=True)
  made.add_special_tokens(list(SPECIAL))
  if bos:
    both = [(token, made.token_to_id(token)) for token in ('<s>', '</s>')]
    made.post_processor = processors.TemplateProcessing(
      single='<s> $A </s>' if adds_end else '<s> $A',
      pair='<s> $A $B',
      special_tokens=both,
    )
  return PreTrainedTokenizerFast(
    tokenizer_object=made,
    bos_token='<s>',
    eos_token=eos if end else None,
    pad_token='</s>',
    chat_template=template or None,
  )


# Copying a tokenizer of 150,000 entries takes a second.
encoder_of = functools.lru_cache(maxsize=4)(Encoder.of)


def learned(one, tokens, loss='assistant', template=''):
  """A row's text with what is learned of it in brackets, made from its token ids."""
  made = load_template(template, tokens)
  encoded = encoder_of(tokens).encode([mark(one, made, loss)])[0]
  if isinstance(encoded, Exception):
    raise encoded
  return marked(tokens, encoded.ids_L, encoded.learned_L)


def write_rows(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)
