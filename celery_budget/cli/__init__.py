"""The command line: `celery -A app budget ...`, and `celery-budget` for what needs no app."""
