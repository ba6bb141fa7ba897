"""Writes reports: the page, and its figures as PNG beside it."""

import dataclasses
import importlib.util
import os
import pathlib
from collections.abc import Sequence

from adapad_jax.files import write_atomically, write_bytes
from adapad_jax.report import compare, tables
from adapad_jax.report.drawings import SECTIONS
from adapad_jax.report.page import Picture, figures, heading, page, section
from adapad_jax.report.regression import regression_page
from adapad_jax.report.run import Run, read_run
from adapad_jax.workdir import RESULT, at, is_regression

REPORT = 'report.html'
FIGURES = 'figures'


def can_draw() -> bool:
  """Whether matplotlib is there."""
  return importlib.util.find_spec('matplotlib') is not None


def how_to_install() -> str:
  """What to do where it is not."""
  return "the report needs matplotlib: pip install 'adapad-jax[report]'"


def figures_of(comparison: pathlib.Path) -> pathlib.Path:
  """The folder that the figures of a comparison go to."""
  return comparison.with_name(f'{comparison.stem}-figures')


def write_report(workdir: str | os.PathLike[str]) -> pathlib.Path:
  """Writes `report.html` and `figures/` into the workdir of a finished run.

  Returns:
    The page.

  Raises:
    ValueError: if there is no finished run, or matplotlib is missing.
  """
  _check()
  workdir = at(workdir)
  if is_regression(workdir) and (workdir / RESULT).is_file():
    text, shown = regression_page(workdir)
    return _write(workdir / REPORT, workdir / FIGURES, text, shown)
  run = read_run(workdir)
  extra = {
    'Learning': tables.metrics(run),
    'Budget': tables.ledger(run),
  }
  parts = [heading(tables.title(run), tables.subtitle(run)), tables.summary(run)]
  shown: list[Picture] = []
  for name, drawings in SECTIONS.items():
    pictures = [drawing.picture() for drawing in drawings(run)]
    parts.append(section(name, figures(pictures) + extra.get(name, '')))
    shown += pictures
  parts.append(section('Answers', tables.samples(run)))
  parts.append(section('Commands', tables.commands(run)))
  parts.append(section('Provenance', tables.provenance(run)))
  text = page(tables.title(run), parts)
  return _write(run.workdir / REPORT, run.workdir / FIGURES, text, shown)


def write_comparison(
  workdirs: Sequence[pathlib.Path], output: pathlib.Path
) -> pathlib.Path:
  """Writes a page that compares finished runs, and its figures beside it.

  Raises:
    ValueError: if a workdir holds no finished run, or matplotlib is missing.
  """
  _check()
  runs = named([read_run(workdir) for workdir in workdirs])
  pictures = [drawing.picture() for drawing in compare.drawings(runs)]
  parts = [
    heading(f'{len(runs)} runs compared', [str(run.workdir) for run in runs]),
    section('Outcome', compare.outcome(runs)),
    section('Figures', figures(pictures)),
    section('What differs in their configs', compare.differences(runs)),
  ]
  text = page(f'{len(runs)} runs compared', parts)
  return _write(output, figures_of(output), text, pictures)


def named(runs: Sequence[Run]) -> list[Run]:
  """The runs under names that differ: with as many parent folders as it takes."""
  paths = [run.workdir.resolve().parts for run in runs]
  for depth in range(1, max(map(len, paths)) + 1):
    names = ['/'.join(parts[-depth:]) for parts in paths]
    if len(set(names)) == len(names):
      break
  return [
    dataclasses.replace(run, name=name) for run, name in zip(runs, names, strict=True)
  ]


def _check() -> None:
  if not can_draw():
    raise ValueError(how_to_install())


def _write(
  output: pathlib.Path, folder: pathlib.Path, text: str, pictures: Sequence[Picture]
) -> pathlib.Path:
  for picture in pictures:
    for look, png in (('light', picture.light), ('dark', picture.dark)):
      write_bytes(folder / f'{picture.name}-{look}.png', png)
  write_atomically(output, lambda file: file.write(text))
  return output
