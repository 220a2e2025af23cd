import os
import time

from celery import Celery

from celery_budget import budget, install

app = Celery("shop", broker="redis://localhost:6379/0")
app.conf.budget_state_url = os.environ.get("CELERY_BUDGET_STATE_URL")
install(app, policy="budget.toml")


@app.task
def charge(order_id):
    print(f"charged {order_id}")


@app.task
def import_pages(count):
    done = budget.progress(default={"pages": [], "runs": 0})
    done["runs"] += 1
    for page in range(len(done["pages"]), count):
        time.sleep(0.03)  # reads the page
        done["pages"].append(page)
        budget.checkpoint(done)
    assert done["pages"] == list(range(count))
    print(f"pages 0 to {count - 1}, each once, in {done['runs']} runs")
