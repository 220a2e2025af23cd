"""Publish twenty reports, and get the last one out of the line."""

from __future__ import annotations

from reports import app, report

from celery_budget.client import Client

ids = [report.delay(number).id for number in range(1, 21)]
wanted = ids[-1]
client = Client(app)

print(client.status(wanted).explanation)
moved = client.move(wanted, "urgent")
print(f"moved from {moved.previous} to {moved.band}, at {moved.place}")
