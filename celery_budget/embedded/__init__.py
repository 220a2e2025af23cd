"""Private servers for demos and tests: started on loopback, ended with their owner.

`RedisServer` and `RabbitServer` are context managers. A server that the user names is used
as it is; a server of ours writes nothing that outlives it. No part of a worker imports this.
"""

from __future__ import annotations

from celery_budget.embedded.node import RabbitNode
from celery_budget.embedded.process import OwnedProcess
from celery_budget.embedded.rabbitmq import RabbitServer
from celery_budget.embedded.redis import RedisServer
from celery_budget.embedded.server import ServerFailed, ServerMissing

__all__ = [
    "OwnedProcess",
    "RabbitNode",
    "RabbitServer",
    "RedisServer",
    "ServerFailed",
    "ServerMissing",
]
