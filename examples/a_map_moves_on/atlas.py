import os
import time

from celery import Celery

from celery_budget import install

app = Celery("atlas", broker="redis://localhost:6379/0")
app.conf.budget_node_memory = os.environ.get("NODE_MEMORY")
install(app, policy="budget.toml")


@app.task
def draw(number):
    canvas = bytearray(b"1") * (500 << 20)
    time.sleep(3)
    print(f"drew map {number}", len(canvas) >> 20, "MiB")


@app.task
def ring(what):
    print(f"alarm: {what}")
