"""An import of a hundred pages, and a payment while it runs."""

import time

from shop import charge, import_pages

import_pages.delay(100)
time.sleep(1)
charge.delay(7)
