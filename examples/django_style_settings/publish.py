"""One task of each band."""

from newsroom.celery import digest, flash

digest.delay(47)
flash.delay("It works")
