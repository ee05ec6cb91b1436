"""DSPy with its default adapter."""

from __future__ import annotations

import checks
import dspy

model = dspy.LM(f"openai/{checks.MODEL}", api_base=checks.API, api_key=checks.KEY, cache=False)


def text() -> None:
    checks.equal(model(checks.HELLO), [checks.HELLO_ANSWER])


def picture() -> None:
    checks.equal(model(messages=checks.question(checks.HOW_MANY)), [checks.HOW_MANY_ANSWER])


checks.run("dspy", text=text, picture=picture)
