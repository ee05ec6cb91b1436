"""axe-core: what a page must not do to people with a screen reader, a keyboard or weak eyes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tests.paths import ROOT
from tests.runtime.server.web.browser import missing

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = ROOT / "tools" / "web" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = frozenset({"serious", "critical"})
RUN = """
async () => (await axe.run({resultTypes: ["violations"]})).violations.map(({id, impact, nodes}) => (
    {id, impact, nodes: nodes.map(({html, failureSummary}) => `${html}: ${failureSummary}`)}
))
"""


@cache
def _axe() -> str:
    if not AXE.is_file():
        missing("axe-core is not installed: run scripts/check_web")
    return AXE.read_text(encoding="utf-8")


def serious_issues(page: Page) -> list[str]:
    """Return what axe-core finds in the page as it is now, with the elements."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_axe())
    found = page.evaluate(RUN)
    return [f"{issue['id']}: {'; '.join(issue['nodes'])}" for issue in found if issue["impact"] in SERIOUS]
