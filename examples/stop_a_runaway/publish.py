"""Three pictures, one of them far too large."""

from pictures import render

for megabytes in (10, 2_000, 20):
    render.delay(megabytes)
