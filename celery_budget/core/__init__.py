"""What should happen, as pure functions and values: no clock, no I/O, no Celery."""
