"""Own a server until killed: `python -m tests.integration.owner RedisServer`.

Prints the server's process ids once it serves, then waits for SIGKILL.
"""

from __future__ import annotations

import signal
import sys

import psutil

from celery_budget import embedded

if __name__ == "__main__":
    with getattr(embedded, sys.argv[1])() as server:
        children = psutil.Process().children(recursive=True)
        print(*(child.pid for child in children), flush=True)
        signal.pause()
