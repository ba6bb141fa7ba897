"""Tests ../docs: pages made from code are up to date, links lead somewhere."""

import pathlib
import re

import pytest

from docs import make_configuration

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ('.', 'docs', 'experiments', 'experiments/*')
PAGES = [page for folder in FOLDERS for page in sorted(ROOT.glob(f'{folder}/*.md'))]


def test_the_configuration_page_is_up_to_date():
  assert make_configuration.PATH.read_text() == make_configuration.page(), (
    'run: python -m docs.make_configuration'
  )


def test_every_field_is_explained():
  for line in make_configuration.page().splitlines():
    if line.startswith('| `'):
      assert line.split('|')[4].strip(), f'no meaning in a docstring: {line}'


def test_every_field_says_what_it_takes():
  for line in make_configuration.page().splitlines():
    groups = ('data.qa', 'data.chat', 'data.generation')
    if line.startswith('| `') and line.split('`')[1] not in groups:
      assert line.split('|')[3].strip(), f'no range beside a type: {line}'


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
  for target in re.findall(r'\]\(([^)#]+)[^)]*\)', page.read_text(encoding='utf-8')):
    if '://' not in target:
      assert (page.parent / target).exists(), f'{page.name} links to {target}'


@pytest.mark.parametrize('page', PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_configs_that_pages_name_exist(page):
  for path in re.findall(r'--config=([\w/]+\.py)', page.read_text(encoding='utf-8')):
    assert (ROOT / path).is_file(), f'{page.name} names {path}'
