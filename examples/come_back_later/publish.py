"""Reports, until too many wait, and a payment."""

import time

from shop import charge, report

from celery_budget import BandOverloaded

for number in range(1, 1_000):
    try:
        report.delay(number)
    except BandOverloaded as overload:
        print(f"come back in {overload.retry_after:.0f} s")
        break
    print(f"report {number}")
    time.sleep(0.1)
charge.delay(7)
