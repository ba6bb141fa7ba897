"""Final answers: the short text at the end of a long one that is right or wrong."""

import dataclasses
import decimal
import re

_PATTERNS = {
  'hashes': r'####[ \t]*([^\n]*)',
  # 'answer2' and 'Answer: 2' as data of multiple choice have them, or a bare letter.
  'choice': r'(?i:\banswer\s*:?\s*(?=\d))(\d+)\b|\b([A-J])\b',
  'boolean': r'(?i)\b(true|false|yes|no)\b',
}
# A number with more digits than that, before or behind the point, is text.
_MOST_DIGITS = 1000
_TRUTH = {'yes': 'true', 'no': 'false'}
# Behind it stands what a model that thinks says.
_THOUGHT = '</think>'


@dataclasses.dataclass(frozen=True)
class FinalAnswer:
  """What is compared of an answer.

  Attributes:
    kind: 'hashes', 'choice', 'boolean', or a regular expression with one group; of
      several matches the last one counts.
  """

  kind: str

  def __call__(self, text: str) -> str | None:
    """The final answer in a text, in the one spelling that is compared; None: none.

    Numbers behind `####` are equal if their values are: 1,200.00 is 1200.
    """
    said = text.rpartition(_THOUGHT)[2]
    found = None
    for match in re.finditer(_PATTERNS.get(self.kind, self.kind), said):
      found = next((group for group in match.groups() if group is not None), None)
    if found is None or not found.strip():
      return None
    if self.kind == 'hashes':
      return _number(found.strip())
    if self.kind == 'boolean':
      return _TRUTH.get(found.lower(), found.lower())
    return found.strip()


def _number(text: str) -> str:
  """The shortest spelling of a number, exactly; other text as it is."""
  plain = re.sub(r'[,\s$%]', '', text).rstrip('.')
  try:
    value = decimal.Decimal(plain)
  except decimal.InvalidOperation:
    return text
  if not value.is_finite() or abs(value.adjusted()) > _MOST_DIGITS:
    return text
  if not value:
    return '0'
  whole, point, fraction = f'{value:f}'.partition('.')
  return (whole + point + fraction.rstrip('0')).rstrip('.')
