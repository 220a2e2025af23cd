import time

from celery import Celery

from celery_budget import budget, install

app = Celery("shop", broker="redis://localhost:6379/0")
install(app, policy="budget.toml")


@app.task
def preview(number):
    time.sleep(0.05 if budget.degraded else 0.5)
    print(f"{'small' if budget.degraded else 'full'} preview {number}")


@app.task
def order(number):
    print(f"took order {number}")
