import time

from celery import Celery

from celery_budget import install

app = Celery("alarms", broker="redis://localhost:6379/0")
install(app, policy="budget.toml")


@app.task
def ring(name):
    time.sleep(0.02)
    print(f"rang {name}")
