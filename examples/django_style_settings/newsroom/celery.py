from celery import Celery

from celery_budget import budget, install

app = Celery("newsroom")
app.config_from_object("newsroom.settings", namespace="CELERY")
install(app)


@app.task(band="breaking")
def flash(headline):
    print(f"{budget.band}: {headline}")


@app.task
def digest(week):
    print(f"{budget.band}: week {week}")
