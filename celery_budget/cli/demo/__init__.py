"""`celery-budget demo`: one overload on Celery as it comes and on priority bands, measured."""
