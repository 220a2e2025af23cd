"""The example of moving a task does what its page says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.test_examples import Example
from tests.servers import Broker


@pytest.fixture
def reports(broker: Broker) -> Iterator[Example]:
    """Set up `examples/move_a_task` on an empty broker."""
    example = Example("move_a_task", broker)
    yield example
    example.end()


def test_the_last_report_passes_those_that_wait(reports: Example) -> None:
    """The page promises that it is next after the move."""
    reports.start("reports", slots=1)
    told = reports.run("hurry.py")
    printed = reports.wait_until_printed(r"report (\d+)", 20)

    assert told.endswith("moved from usual to urgent, at queue urgent\n")
    assert printed.index("20") < 12
    assert [str(number) for number in range(1, 20)] == [text for text in printed if text != "20"]
    assert 1 == printed.count("20")
