"""Experiments and benchmarks, one folder each: `python -m experiments.NAME.run`."""
