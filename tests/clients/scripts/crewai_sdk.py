"""CrewAI's model."""

from __future__ import annotations

import checks
from crewai import LLM

model = LLM(model=f"openai/{checks.MODEL}", base_url=checks.API, api_key=checks.KEY)


def text() -> None:
    checks.equal(model.call(checks.HELLO), checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(model.call(checks.question(checks.HOW_MANY)), checks.HOW_MANY_ANSWER)


checks.run("crewai", text=text, picture=picture)
