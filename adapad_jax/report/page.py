"""HTML of a report: one file that needs nothing else, light or dark as its reader."""

import base64
import dataclasses
import html
from collections.abc import Sequence

_STYLE = """
:root { color-scheme: light dark; --paper: #f6f8fa; --card: #fff; --ink: #1f2328;
  --soft: #59636e; --line: #d8dee4; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --card: #161b22;
  --ink: #e6edf3; --soft: #9aa4af; --line: #3d444d; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p { margin: .25rem 0; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.cards { display: grid; gap: .75rem; margin: 1rem 0; padding: 0;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.cards div, .box { background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: .75rem; min-width: 0; }
.cards dt { color: var(--soft); font-size: .85rem; }
.cards dd { margin: 0; font-size: 1.3rem; font-weight: 600; overflow-wrap: anywhere; }
.cards small { display: block; color: var(--soft); font-size: .8rem;
  font-weight: 400; }
.figures { display: grid; gap: .75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); }
figure { margin: 0; }
.wide, .figures > :last-child:nth-child(odd) { grid-column: 1 / -1; }
.scroll { overflow-x: auto; margin: .75rem 0; }
figure .scroll { margin: 0; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { margin-top: .5rem; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td:first-child { white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
details { margin: .75rem 0; }
summary { cursor: pointer; color: var(--accent); padding: .25rem 0; }
pre { overflow-x: auto; margin: .25rem 0; }
code, pre { font: .85rem/1.45 ui-monospace, monospace; }
@media (max-width: 40rem) { .wide img { max-width: none; width: 40rem; }
  main { padding: .6rem; } .cards { grid-template-columns: 1fr 1fr; } }
"""


@dataclasses.dataclass(frozen=True)
class Picture:
  """A figure in both looks.

  Attributes:
    name: of its files.
    title, caption: what it shows, how to read it.
    light, dark: PNG.
    width: inches; wide ones get the whole width of the page.
  """

  name: str
  title: str
  caption: str
  light: bytes
  dark: bytes
  width: float


_WIDE_FROM = 7.2
_PIXELS_PER_INCH = 96


def page(title: str, parts: Sequence[str]) -> str:
  """A whole document."""
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f'<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n'
    f'<body>\n<main>\n{"".join(parts)}</main>\n</body>\n</html>\n'
  )


def heading(title: str, lines: Sequence[str]) -> str:
  """The title and what stands below it."""
  rows = ''.join(f'<p class="soft">{html.escape(line)}</p>\n' for line in lines)
  return f'<header>\n<h1>{html.escape(title)}</h1>\n{rows}</header>\n'


def section(title: str, content: str) -> str:
  """A part of the page; nothing if it has no content."""
  if not content:
    return ''
  return f'<section>\n<h2>{html.escape(title)}</h2>\n{content}</section>\n'


def cards(values: Sequence[tuple[str, str, str]]) -> str:
  """Figures in large type: name, value, and what else there is to say."""
  parts = [
    f'<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}'
    + (f'<small>{html.escape(note)}</small>' if note else '')
    + '</dd></div>\n'
    for name, value, note in values
  ]
  return f'<dl class="cards">\n{"".join(parts)}</dl>\n'


def figures(pictures: Sequence[Picture]) -> str:
  """Figures side by side where the page is wide enough."""
  if not pictures:
    return ''
  return f'<div class="figures">\n{"".join(map(figure, pictures))}</div>\n'


def figure(picture: Picture) -> str:
  """One figure in the look of the reader's device."""
  is_wide = picture.width > _WIDE_FROM
  name = html.escape(picture.title)
  width = round(picture.width * _PIXELS_PER_INCH)
  return (
    f'<figure class="box{" wide" if is_wide else ""}">\n<h3>{name}</h3>\n'
    '<div class="scroll"><picture>'
    f'<source media="(prefers-color-scheme: dark)" srcset="{_inline(picture.dark)}">'
    f'<img src="{_inline(picture.light)}" alt="{name}. {html.escape(picture.caption)}"'
    f' style="width:{width}px"></picture></div>\n'
    f'<figcaption>{html.escape(picture.caption)}</figcaption>\n</figure>\n'
  )


def _inline(png: bytes) -> str:
  return f'data:image/png;base64,{base64.b64encode(png).decode()}'


def table(
  header: Sequence[str], rows: Sequence[Sequence[object]], form: str = '.4g'
) -> str:
  """A table that scrolls by itself where it is wider than the page.

  Args:
    header: names of the columns.
    rows: cells; numbers stand to the right.
    form: how floats are written.
  """
  head = _cells('th', header, form, ' scope="col"')
  body = ''.join(f'<tr>{_cells("td", row, form)}</tr>\n' for row in rows)
  return (
    f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
    f'<tbody>\n{body}</tbody>\n</table></div>\n'
  )


def _cells(tag: str, values: Sequence[object], form: str, more: str = '') -> str:
  return ''.join(
    f'<{tag}{more}{_number(value)}>{html.escape(_shown(value, form))}</{tag}>'
    for value in values
  )


def _number(value: object) -> str:
  return ' class="number"' if isinstance(value, int | float) else ''


def _shown(value: object, form: str) -> str:
  if value is None:
    return '-'
  return f'{value:{form}}' if isinstance(value, float) else str(value)


def details(title: str, content: str) -> str:
  """Content that opens on demand."""
  return (
    f'<details>\n<summary>{html.escape(title)}</summary>\n{content}</details>\n'
    if content
    else ''
  )


def code(text: str) -> str:
  """Commands as they are typed."""
  return f'<pre class="box"><code>{html.escape(text)}</code></pre>\n'
