from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

CELERY_BROKER_URL = "redis://localhost:6379/0"
CELERY_BUDGET_POLICY = BASE_DIR / "budget.toml"
