"""Adaptive-rank fine-tuning by parallel deflation (AdaPaD) in JAX."""

__version__ = '0.1.0'
