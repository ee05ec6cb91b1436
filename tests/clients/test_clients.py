"""Clients of other projects, unchanged and in their defaults, against a real service.

Each runs a script of its own in an environment of its own. Answers are compared with the truth, not with a status.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clients.environments import node_environment, python_environment
from tests.paths import EXAMPLES
from tests.runtime.server.running_server import Server

pytestmark = [pytest.mark.clients, pytest.mark.timeout(2400)]

SCRIPTS = Path(__file__).with_name("scripts")
SHARED = ("checks", "chat_completions", "counts", "locustfile")
"""Files in the folder that are not scripts of their own."""
SCRIPT_SECONDS = 1200

OFFLINE = {
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OTEL_SDK_DISABLED": "true",
}
"""Keeps clients from asking other services, which they would do before their first request and after their last."""


@dataclass(frozen=True)
class Client:
    """A script and what it needs: packages of pip, or of npm for a script in JavaScript."""

    script: str
    packages: tuple[str, ...]


PYTHON = {
    "openai-1": Client("openai_sdk.py", ("openai>=1.109,<2",)),
    "openai-3": Client("openai_sdk.py", ("openai>=3.50,<4",)),
    "anthropic": Client("anthropic_sdk.py", ("anthropic>=2.10,<3",)),
    "ollama": Client("ollama_sdk.py", ("ollama>=0.6.3,<0.7",)),
    "instructor": Client("instructor_sdk.py", ("instructor>=1.17,<2",)),
    "llm": Client("llm_cli.py", ("llm==0.36",)),
    "langchain": Client("langchain_openai_sdk.py", ("langchain-openai>=1.7,<2",)),
    "litellm": Client("litellm_sdk.py", ("litellm",)),
    "litellm-proxy": Client("litellm_proxy.py", ("litellm[proxy]",)),
    "pydantic-ai": Client("pydantic_ai_sdk.py", ("pydantic-ai-slim[openai]>=2.60,<3",)),
    "llama-index": Client("llama_index_sdk.py", ("llama-index-llms-openai-like>=0.8,<0.9",)),
    "browser-use": Client("browser_use_sdk.py", ("browser-use>=0.13,<0.14",)),
    "guidellm": Client("guidellm_cli.py", ("guidellm[vision]>=0.8,<0.9",)),
    "locust": Client("locust_cli.py", ("locust>=2.47,<3",)),
    "openai-agents": Client("openai_agents_sdk.py", ("openai-agents>=0.24,<0.25",)),
    "dspy": Client("dspy_sdk.py", ("dspy>=3.4,<4",)),
    "haystack": Client("haystack_sdk.py", ("haystack-ai>=3.4,<4",)),
    "smolagents": Client("smolagents_sdk.py", ("smolagents[openai]>=1.26,<2",)),
    "agno": Client("agno_sdk.py", ("agno>=3.1,<4", "openai")),
    "autogen": Client("autogen_sdk.py", ("autogen-ext[openai]>=0.7,<0.8",)),
    "semantic-kernel": Client("semantic_kernel_sdk.py", ("semantic-kernel>=1.45,<2",)),
    "crewai": Client("crewai_sdk.py", ("crewai>=1.15,<2",)),
}
NODE = {
    "openai-node": Client("openai_sdk.mjs", ("openai@^7.55",)),
    "ai-sdk": Client("ai_sdk.mjs", ("ai@^7", "@ai-sdk/openai@^4", "@ai-sdk/openai-compatible@^3", "zod@^4")),
    "langchain-js": Client("langchain_openai_sdk.mjs", ("@langchain/openai@^1.6", "@langchain/core@^1.4", "zod@^4")),
}


@pytest.mark.parametrize("name", PYTHON)
def test_python_client(
    name: str, server: Server, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    client = PYTHON[name]
    python = python_environment(name, client.packages) / "python"
    run_script(name, [python, SCRIPTS / client.script, server.url, EXAMPLES], tmp_path, record_property)


@pytest.mark.parametrize("name", NODE)
def test_node_client(name: str, server: Server, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    client = NODE[name]
    folder = node_environment(name, client.packages)
    for script in ("checks.mjs", client.script):  # a module finds packages only in the folders above it
        shutil.copy(SCRIPTS / script, folder)
    run_script(name, ["node", client.script, server.url, EXAMPLES], tmp_path, record_property, folder)


def run_script(
    name: str,
    command: list[str | Path],
    home: Path,
    record_property: Callable[[str, object], None],
    folder: Path | None = None,
) -> None:
    """Run a script with an empty HOME. Records its results for the table, and fails with those that are wrong."""
    done = subprocess.run(
        command,
        cwd=folder or home,
        env=os.environ | OFFLINE | {"PYTHONPATH": ""} | {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")},
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    errors = {line["check"]: line["error"] for line in lines if "check" in line}
    record_property("client", name)
    record_property("version", next((line["version"] for line in lines if "version" in line), "?"))
    for check, error in errors.items():
        record_property(check, "ok" if error is None else "WRONG")
    output = done.stdout[-4000:] + done.stderr[-8000:]
    assert done.returncode == 0, output
    assert errors, output
    wrong = {check: error for check, error in errors.items() if error is not None}
    assert not wrong, f"{json.dumps(wrong, indent=1)}\n{output}"


def test_every_script_is_run() -> None:
    used = {client.script for client in (*PYTHON.values(), *NODE.values())}
    assert {path.name for path in SCRIPTS.iterdir() if path.stem not in SHARED and path.is_file()} == used
