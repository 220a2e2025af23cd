import time

from celery import Celery

from celery_budget import install

app = Celery("mailing", broker="redis://localhost:6379/0")
install(app, policy="budget.toml")


@app.task
def send(customer, number):
    time.sleep(0.1)
    print(f"sent {customer} {number}")
