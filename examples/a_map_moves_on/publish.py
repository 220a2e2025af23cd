"""A map that takes half a gigabyte, and an alarm."""

from atlas import draw, ring

draw.delay(1)
ring.delay("fire")
