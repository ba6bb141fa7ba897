"""The families that can be loaded, by the `model_type` of their config.json."""

import difflib

from adapad_jax.models import deberta, decoder_families, encoder, modernbert
from adapad_jax.models.family import Family

FAMILIES: dict[str, Family] = {
  family.name: family
  for family in (
    encoder.BERT,
    encoder.ROBERTA,
    deberta.DEBERTA,
    modernbert.MODERNBERT,
    *decoder_families.DECODERS,
  )
}


def family_of(model_type: str) -> Family:
  """Looks up the family of a config.json's `model_type`.

  Raises:
    ValueError: for a type that is not implemented, with the ones that are.
  """
  if model_type in FAMILIES:
    return FAMILIES[model_type]
  near = difflib.get_close_matches(str(model_type), FAMILIES, n=1)
  hint = f' (did you mean {near[0]!r}?)' if near else ''
  raise ValueError(
    f'model_type {model_type!r} is not implemented{hint};'
    f' choose a model of one of {sorted(FAMILIES)}'
  )
