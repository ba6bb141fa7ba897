"""Which commits of the hub a run reads, from its first start on."""

import dataclasses
import pathlib
from typing import Any

from adapad_jax.origins import HubCommit
from adapad_jax.training.config import FinetuneConfig
from adapad_jax.training.record import Record, known_record


@dataclasses.dataclass(frozen=True)
class Commits:
  """The commits of a run; None for what is in a folder or a package.

  Attributes:
    model: of the pretrained model and its tokenizer.
    data: of the data set.
  """

  model: HubCommit | None = None
  data: HubCommit | None = None

  def as_dict(self) -> dict[str, Any]:
    """What there is, as plain dicts: of model, tokenizer and data."""
    found = {'model': self.model, 'tokenizer': self.model, 'data': self.data}
    return {name: dataclasses.asdict(one) for name, one in found.items() if one}


LATEST = Commits()


def recorded(record: Record | None) -> Commits:
  """The commits that a run has written down; none for no record."""
  if record is None:
    return LATEST
  return Commits(record.model.hub, record.data and record.data.hub)


def begun_with(workdir: pathlib.Path) -> Commits:
  """The commits of the run in a workdir; none where there is no run yet."""
  return recorded(known_record(workdir))


def at_commits(config: FinetuneConfig, commits: Commits) -> FinetuneConfig:
  """The config that reads these commits, whatever their branches are by now."""
  model, data = config.model, config.data
  if commits.model is not None:
    model = dataclasses.replace(model, source=_id(commits.model), revision='')
  if commits.data is not None:
    data = dataclasses.replace(data, path=_id(commits.data), revision='')
  return dataclasses.replace(config, model=model, data=data)


def _id(one: HubCommit) -> str:
  return f'{one.repo}@{one.commit}'
