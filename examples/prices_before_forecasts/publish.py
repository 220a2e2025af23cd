"""Fifty forecasts, and a price each second."""

import time

from shop import forecast, price

for number in range(50):
    forecast.delay(number)
for number in range(10):
    time.sleep(1)
    price.delay(number)
