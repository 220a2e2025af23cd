"""README, docs/ and examples/ say what is the case: links lead somewhere, policies are fine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from celery_budget.policy.load import load

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("docs", "examples", "deploy")
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))]
    if page.parent.name != "changelog.d"  # fragments of one page to come
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")

COMMANDS = [
    "python3 -m venv .venv && .venv/bin/pip install -q '.[demo]' && .venv/bin/celery-budget demo",
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m tests",
]


def blocks(text: str, language: str) -> list[str]:
    """List the fenced blocks of one language."""
    return [body for found, body in _FENCE.findall(text) if found == language]


def anchors(page: Path) -> set[str]:
    """Name the anchors that GitHub gives a page's headings."""
    text = _FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings
    }


def named(page: Path) -> str:
    """Name a page in a test's id."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """A dead link is found by the reader who needs the page most."""
    links = [link for link in _LINK.findall(_FENCE.sub("", page.read_text())) if "://" not in link]
    dead = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)

    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_policy_on_a_page_is_fine(page: Path) -> None:
    """What is shown is copied. A fragment that needs the rest of a policy is joined with one."""
    policies = [tomllib.loads(body) for body in blocks(page.read_text(), "toml")]

    for policy in policies:
        bands = policy.get("bands")
        load({"default_band": next(iter(bands)), **policy} if bands else policy)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_on_a_page_compiles(page: Path) -> None:
    """Code that does not even parse was never run."""
    for body in blocks(page.read_text(), "python"):
        compile(body, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_starts_with_its_only_title(page: Path) -> None:
    """Two first-level headings make two pages of one in every viewer's outline."""
    text = _FENCE.sub("", page.read_text())

    assert text.startswith("# ")
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1


def test_the_readme_has_the_two_commands_each_alone() -> None:
    """They are pasted by people and executed by CI."""
    section = (ROOT / "README.md").read_text().split("\n## Two commands\n")[1].split("\n## ")[0]

    assert blocks(section, "sh") == [f"{command}\n" for command in COMMANDS]


def test_the_readmes_app_is_the_tested_example() -> None:
    """The example is run by the tests; the page must not drift away from it."""
    readme = (ROOT / "README.md").read_text()
    folder = ROOT / "examples" / "urgent_before_reports"
    (app,) = blocks(readme, "python")
    (policy,) = blocks(readme, "toml")

    assert re.sub(r"  # new.*", "", app) == (folder / "shop.py").read_text()
    assert policy == (folder / "budget.toml").read_text().split("\n\n", 1)[1]


def test_every_page_is_reached_from_the_index() -> None:
    """A page that nothing links to is not read, and so not kept true."""
    reached: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        links = (link.partition("#")[0] for link in _LINK.findall(page.read_text()))
        todo += [(page.parent / link).resolve() for link in links if link and "://" not in link]

    assert {named(page) for page in set(PAGES) - reached} == set()
