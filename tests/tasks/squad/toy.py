"""Official files of a few questions: small, but answered by reading alone."""

import json
import pathlib

PEOPLE = ('Ann', 'Ben', 'Cleo', 'Dora', 'Emil', 'Fay', 'Gus', 'Hedy')
TOWNS = ('Rome', 'Oslo', 'Lima', 'Bonn', 'Cairo', 'Perth', 'Quito', 'Kyoto')


def write_toy(
  folder: pathlib.Path, *, unanswerable: bool = False, articles: int = 2
) -> tuple[str, str]:
  """Writes train.json and dev.json; gives their paths.

  Every passage says where four people live; each article asks about the first two
  and, if `unanswerable`, about one who is not in it.
  """
  paths = []
  for name in ('train', 'dev'):
    data = [_article(i, name, unanswerable) for i in range(articles)]
    path = folder / f'{name}.json'
    path.write_text(json.dumps({'version': 'toy', 'data': data}), encoding='utf-8')
    paths.append(str(path))
  return paths[0], paths[1]


def _article(number: int, name: str, unanswerable: bool) -> dict:
  people = [PEOPLE[(number + i) % 8] for i in range(4)]
  towns = [TOWNS[(3 * number + i) % 8] for i in range(4)]
  context = ' '.join(f'{p} lives in {t}.' for p, t in zip(people, towns, strict=True))
  questions = []
  for i in range(2):
    text, at = towns[i], context.index(f'in {towns[i]}.') + 3
    questions.append((people[i], [{'text': text, 'answer_start': at}]))
  if unanswerable:
    questions.append((PEOPLE[(number + 5) % 8], []))
  qas = [
    {'id': f'{name}-{number}-{i}', 'question': f'Where does {who} live?', 'answers': a}
    for i, (who, a) in enumerate(questions)
  ]
  return {'title': f'{name} {number}', 'paragraphs': [{'context': context, 'qas': qas}]}
