"""Two minutes of work for one slot."""

from mail import send

for number in range(120):
    send.delay(number)
