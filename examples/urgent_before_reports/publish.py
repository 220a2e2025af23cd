"""Forty reports, and then a payment."""

from shop import charge, report

for day in range(40):
    report.delay(day)
charge.delay(7)
