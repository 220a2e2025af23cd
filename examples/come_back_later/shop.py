import time

from celery import Celery

from celery_budget import install

app = Celery("shop", broker="redis://localhost:6379/0")
install(app, policy="budget.toml")


@app.task
def charge(order_id):
    print(f"charged {order_id}")


@app.task
def report(number):
    time.sleep(0.1)
    print(f"wrote report {number}")
