"""Two thousand letters of a large customer, then one each of three small ones."""

from mailing import send

for number in range(2_000):
    send.delay("large", number)
for customer in ("baker", "florist", "tailor"):
    send.delay(customer, 0)
