"""Two reports, and a payment while they run."""

import time

from shop import charge, report

for day in range(2):
    report.delay(day)
time.sleep(1)
charge.delay(7)
