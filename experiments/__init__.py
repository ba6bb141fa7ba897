"""Experiments and benchmarks on one harness; README.md says what each one asks."""
