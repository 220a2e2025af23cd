import time

from celery import Celery

from celery_budget import CeilingExceeded, install

app = Celery("pictures", broker="redis://localhost:6379/0")
install(app, policy="budget.toml")


@app.task
def render(megabytes):
    tiles = []
    try:
        for _ in range(megabytes):
            tiles.append(bytearray(1_000_000))
            time.sleep(0.001)
    except CeilingExceeded as error:
        print(f"gave up: {error}")
        raise
    print(f"rendered {megabytes} MB")
