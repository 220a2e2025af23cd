"""What an application asks about its tasks and does with them while they wait."""

from celery_budget.client.accounts import AccountStatus
from celery_budget.client.client import Cancelled, Client, Moved
from celery_budget.client.status import State, Status

__all__ = ["AccountStatus", "Cancelled", "Client", "Moved", "State", "Status"]
