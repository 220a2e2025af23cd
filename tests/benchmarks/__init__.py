"""Benchmarks against stock Celery, run by `python -m tests.benchmarks`; never part of the tests."""
