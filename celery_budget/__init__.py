"""Priority bands and budgets for existing Celery apps."""

from celery_budget.app import install
from celery_budget.bill import Bill
from celery_budget.errors import (
    BandOverloaded,
    BudgetError,
    CeilingExceeded,
    HeaderError,
    NotInTask,
    OptionError,
    PolicyError,
)
from celery_budget.task import BudgetTask, budget

__all__ = [
    "BandOverloaded",
    "Bill",
    "BudgetError",
    "BudgetTask",
    "CeilingExceeded",
    "HeaderError",
    "NotInTask",
    "OptionError",
    "PolicyError",
    "budget",
    "install",
]
