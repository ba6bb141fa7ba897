"""SQuAD v1.1 and v2.0: questions about passages, by marked span or by generation.

Rajpurkar et al. (2016), arXiv:1606.05250, and Rajpurkar et al. (2018),
arXiv:1806.03822. A row of a split is a window: one question with as much of its
passage as fits. Axis letters beside those of `tasks`, where N counts windows: Q
questions, P passages, T passage tokens, A answer tokens, K candidate answers.
"""
