import os
import time

from celery import Celery

from celery_budget import install

app = Celery("shop", broker="redis://localhost:6379/0")
app.conf.worker_concurrency = 3 * os.cpu_count()
install(app, policy="budget.toml")


def compute(seconds):
    begun = time.process_time()
    while time.process_time() < begun + seconds:
        sum(range(10_000))


@app.task
def forecast(number):
    compute(2)
    print(f"forecast {number}")


@app.task
def price(number):
    begun = time.time()
    compute(0.2)
    print(f"price {number} took {time.time() - begun:.1f} s")
