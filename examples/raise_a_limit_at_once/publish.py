"""Sixty mails: a minute of work at one a second."""

from mail import send

for number in range(60):
    send.delay(number)
