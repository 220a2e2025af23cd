"""Two hundred previews, and an order each tenth of a second for ten seconds."""

import time

from shop import order, preview

for number in range(200):
    preview.delay(number)
for number in range(100):
    order.delay(number)
    time.sleep(0.1)
