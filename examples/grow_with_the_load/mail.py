import time

from celery import Celery

from celery_budget import install

app = Celery("mail", broker="redis://localhost:6379/0")
app.conf.worker_autoscaler = "celery_budget.worker.autoscaler:BudgetAutoscaler"
install(app, policy="budget.toml")


@app.task
def send(number):
    time.sleep(1)
    print(f"sent {number}")
