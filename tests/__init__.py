"""The tests of celery-budget; run them all with `python -m tests`."""
