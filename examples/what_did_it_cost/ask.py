"""Six questions of one customer, and what each answer cost."""

from answers import ask

from celery_budget import Bill

for number in range(1, 7):
    result = ask.delay("acme", f"question {number}")
    answer = result.get(timeout=30)
    bill = Bill.of(result)
    less = ", it did less than usual" if bill.degraded else ""
    print(f"{answer}: {bill.usage['usd'] / 1_000_000:.2f} dollars{less}")
