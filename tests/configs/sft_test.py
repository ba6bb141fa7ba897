"""The configuration for instruction tuning: options and what they resolve to."""

import pytest

from adapad_jax.training.config import finetune_config
from configs import glue, sft


@pytest.mark.parametrize(
  ('arg', 'source', 'dtype', 'length', 'rows'),
  [
    ('', 'Qwen/Qwen3-0.6B', 'bfloat16', 1024, 0),
    ('qwen25', 'Qwen/Qwen2.5-0.5B-Instruct', 'bfloat16', 1024, 0),
    ('gemma3,quick', 'google/gemma-3-270m-it', 'bfloat16', 192, 256),
    ('smollm2', 'HuggingFaceTB/SmolLM2-135M-Instruct', 'float32', 512, 0),
    ('smollm2,quick', 'HuggingFaceTB/SmolLM2-135M-Instruct', 'float32', 192, 256),
  ],
)
def test_options(arg, source, dtype, length, rows):
  config = finetune_config(sft.get_config(arg).to_dict())
  assert (config.data.task, config.data.chat.loss) == ('sft', 'assistant')
  assert (config.model.source, config.model.dtype) == (source, dtype)
  assert (config.data.max_length, config.data.max_train_rows) == (length, rows)
  assert all(bucket < length for bucket in config.train.buckets)


def test_fields_can_be_set():
  config = sft.get_config('smollm2')
  config.data.weights = (2.0, 0.5)
  config.data.chat.loss = 'last'
  config.train.packing = True
  found = finetune_config(config.to_dict())
  assert found.data.weights == (2.0, 0.5) and found.data.chat.loss == 'last'
  assert found.train.packing


def test_unknown_options_name_the_choices():
  with pytest.raises(ValueError, match="'smolm2'.*did you mean 'smollm2'"):
    sft.get_config('smolm2=1')
  with pytest.raises(ValueError, match="unknown config option 'qwen3'.*'qwen25'"):
    sft.get_config('qwen3')
  with pytest.raises(ValueError, match=r"\['smollm2', 'qwen25'\] exclude each other"):
    sft.get_config('qwen25,smollm2')


@pytest.mark.parametrize(
  ('arg', 'match'),
  [
    ('quickstart,minlm', "option 'minlm'.*did you mean 'minilm'"),
    ('rte,mnli', "unknown config option 'mnli'"),
    ('rtee,quick', "unknown task 'rtee'.*did you mean 'rte'"),
    ('quickstart,quick', "'quick' are of other tasks"),
  ],
)
def test_words_that_do_not_fit_are_named(arg, match):
  with pytest.raises(ValueError, match=match):
    glue.get_config(arg)


def test_a_task_may_come_after_switches():
  assert glue.get_config('minilm,rte') == glue.get_config('rte,minilm')
