"""The SQuAD configurations: options, choices and what they resolve to."""

import pytest

from adapad_jax.training.config import finetune_config
from configs import squad


@pytest.mark.parametrize(
  ('arg', 'task', 'answer', 'source'),
  [
    ('v1', 'squad', 'generate', 'Qwen/Qwen3-0.6B'),
    ('v2,decoder', 'squad_v2', 'generate', 'Qwen/Qwen3-0.6B'),
    ('v2,decoder,span', 'squad_v2', 'span', 'Qwen/Qwen3-0.6B'),
    ('v1,encoder', 'squad', 'span', 'microsoft/deberta-v3-base'),
    ('v2,minilm', 'squad_v2', 'span', squad.MINILM),
    ('v1,quick', 'squad', 'span', squad.MINILM),
    ('v1,encoder,quick', 'squad', 'span', 'microsoft/deberta-v3-base'),
  ],
)
def test_options(arg, task, answer, source):
  config = finetune_config(squad.get_config(arg).to_dict())
  assert (config.data.task, config.data.qa.answer) == (task, answer)
  assert config.model.source == source
  assert config.data.max_train_rows == (512 if 'quick' in arg else 0)
  room = (
    config.data.max_length - config.data.qa.max_question - config.data.qa.max_answer
  )
  assert room > config.data.qa.overlap + 40  # Windows move forward.


def test_fields_of_the_answers_can_be_set():
  config = squad.get_config('v2,minilm')
  config.data.qa.null_threshold = -1.5
  config.data.qa.answer = 'generate'
  found = finetune_config(config.to_dict()).data.qa
  assert found.null_threshold == -1.5 and found.answer == 'generate'


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('v3', "unknown version 'v3'; choose from \\['v1', 'v2'\\]"),
    ('v1,encoder,decoder', "'encoder', 'decoder'\\] exclude each other"),
    ('v1,encoders=1', "did you mean 'encoder'"),
  ],
)
def test_choices(arg, message):
  with pytest.raises(ValueError, match=message):
    squad.get_config(arg)
