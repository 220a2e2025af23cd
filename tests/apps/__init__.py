"""Apps for workers of the tests; the broker comes from `CELERY_BROKER_URL`."""
