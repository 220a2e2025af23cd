"""Ten questions about whales for a dollar, and ten about ants for whatever they cost."""

from celery import chain
from research import ask

from celery_budget import budget

with budget.envelope(usd=1, deadline="10m"):
    chain(*(ask.si("whales", number) for number in range(10))).delay()
chain(*(ask.si("ants", number) for number in range(10))).delay()
