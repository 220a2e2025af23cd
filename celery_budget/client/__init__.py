"""What an application asks about its tasks, does with them, and changes for all of them."""

from celery_budget.client.accounts import AccountStatus
from celery_budget.client.catalogue import CatalogueEntry
from celery_budget.client.client import Cancelled, Client, Moved
from celery_budget.client.operator import Changed, Operator
from celery_budget.client.status import State, Status
from celery_budget.core.outlook import Ahead, Outlook

__all__ = [
    "AccountStatus",
    "Ahead",
    "Cancelled",
    "CatalogueEntry",
    "Changed",
    "Client",
    "Moved",
    "Operator",
    "Outlook",
    "State",
    "Status",
]
