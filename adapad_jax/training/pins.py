"""Which commits of the hub a run reads, from its first start on."""

import dataclasses
from typing import Any

from adapad_jax.hub import Pin
from adapad_jax.training.config import FinetuneConfig


@dataclasses.dataclass(frozen=True)
class Pins:
  """The commits of a run; None for what is in a folder or a package.

  Attributes:
    model, tokenizer: of the pretrained model; they are read from the same commit.
    data: of the data set.
  """

  model: Pin | None = None
  tokenizer: Pin | None = None
  data: Pin | None = None

  @classmethod
  def of(cls, model: Pin | None, data: Pin | None) -> 'Pins':
    """The pins of a model that comes with its tokenizer."""
    return cls(model, model, data)

  def over(self, others: 'Pins') -> 'Pins':
    """These pins, and others where there is none."""
    names = [field.name for field in dataclasses.fields(self)]
    return Pins(**{n: getattr(self, n) or getattr(others, n) for n in names})

  def as_dict(self) -> dict[str, Any]:
    """What there is, as plain dicts by name."""
    return {name: one for name, one in dataclasses.asdict(self).items() if one}


NO_PINS = Pins()


def at_pins(config: FinetuneConfig, pins: Pins) -> FinetuneConfig:
  """The config that reads these commits, whatever their branches are by now."""
  model, data = config.model, config.data
  if pins.model is not None:
    model = dataclasses.replace(model, source=_id(pins.model), revision='')
  if pins.data is not None:
    data = dataclasses.replace(data, path=_id(pins.data), revision='')
  return dataclasses.replace(config, model=model, data=data)


def _id(pin: Pin) -> str:
  return f'{pin.repo}@{pin.commit}'
