"""`llm` on the command line, with the model in its configuration file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import checks

FOLDER = Path(mkdtemp())
CONFIGURATION = f"""
- model_id: shelf
  model_name: {checks.MODEL}
  api_base: {checks.API}
  vision: true
  supports_schema: true
  supports_tools: true
"""


def llm(*arguments: str | Path) -> str:
    own = {"LLM_USER_PATH": str(FOLDER), "OPENAI_API_KEY": checks.KEY}
    command = [sys.executable, "-m", "llm", "-m", "shelf", *arguments]
    done = subprocess.run(command, env=os.environ | own, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(done.stderr.decode())
    return done.stdout.decode().rstrip("\n")


def text() -> None:
    checks.equal(llm("--no-stream", checks.HELLO), checks.HELLO_ANSWER)


def picture() -> None:
    checks.equal(llm("-a", checks.SHELF, checks.HOW_MANY), checks.HOW_MANY_ANSWER)


def stream() -> None:
    checks.equal(llm(checks.HELLO), checks.HELLO_ANSWER)
    checks.equal(llm("--continue", checks.HELLO), checks.HELLO_ANSWER)


def schema() -> None:
    answer = llm("-a", checks.SHELF, "--schema", "bottles int, cans int", checks.COUNT)
    # Its short form of a schema allows further properties, and the embedded model adds some.
    checks.equal({name: json.loads(answer)[name] for name in checks.COUNTS}, checks.COUNTS)


def tools() -> None:
    code = 'def report_count(bottles: int, cans: int) -> str:\n    "Report the counts."\n    return f"{bottles} {cans}"'
    (FOLDER / "tools.py").write_text(code)
    llm("-a", checks.SHELF, "--functions", FOLDER / "tools.py", checks.COUNT)
    logged = json.loads(llm_logs())
    checks.equal([call["arguments"] for entry in logged for call in entry["tool_calls"]][:1], [checks.COUNTS])


def llm_logs() -> str:
    own = {"LLM_USER_PATH": str(FOLDER)}
    command = [sys.executable, "-m", "llm", "logs", "--json", "-n", "2"]
    return subprocess.run(command, env=os.environ | own, capture_output=True, check=True).stdout.decode()


(FOLDER / "extra-openai-models.yaml").write_text(CONFIGURATION)
checks.run("llm", text=text, picture=picture, stream=stream, schema=schema, tools=tools)
