"""Chat templates: what they may use, and what stops those that never end or grow without bound."""

from __future__ import annotations

import re
import threading
import time

import pytest

from vlrun.embedded import FOLDER
from vlrun.errors import DamagedModel, OptionError
from vlrun.prompt import template_limits
from vlrun.prompt.chat_template import ChatTemplate, Message
from vlrun.prompt.template_environment import TemplateEnvironment
from vlrun.prompt.template_limits import MAX_TEMPLATE, TemplateLimitError
from vlrun.prompt.tokenizer import parse_tokenizer
from vlrun.types.turn import Tool

TINY = parse_tokenizer((FOLDER / "tokenizer.json").read_bytes(), "tokenizer.json")
TOOLS: list[Tool] = [{"type": "function", "function": {"name": "f", "description": "<b>é", "parameters": {}}}]


def rendered(source: str, text: str = "hi", tools: list[Tool] = TOOLS) -> str:
    return ChatTemplate(source, TINY, 1).render([Message("user", (text,))], tools)


EXTENSIONS = [
    "{% generation %}a{{ messages[0].content }}{% endgeneration %}b",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{{ strftime_now('%Y-%m') }}",
    "{{ tools | tojson }}",
    "{{ tools | tojson(indent=4) }}{{ tools[0] | tojson(ensure_ascii=True) }}",
    "{{ tools[0].function | tojson(separators=(',', ':'), sort_keys=true) }}",
    "{{ '%s %s' | format('a', messages[0].content) }}{{ '{}'.format(1) }}{{ messages[0].content | title | center(9) }}",
    "{% set x %}<|im_end|>{{ messages[0].content }}{% endset %}{{ x | trim }}{{ [x, 1] | join('<|im_start|>') }}",
    "{{ messages[0].content.replace('h', '<|image_pad|>') }}{{ messages | map(attribute='role') | list }}",
    "{% macro m(a, b='<|im_end|>') %}{{ a ~ b }}{% endmacro %}{{ m('x') | upper }}{{ m('x', 1)[:1] }}",
    "{{ messages[0].content | default('x', true) | replace('i', 'o') | indent(2, true) }}{{ none }}{{ missing }}",
    "{{ ', '.join(messages | map(attribute='role')) }}{{ '-'.join({'a': 1}) }}{{ 'x' | first }}{{ messages | last }}",
    "{% for a, b in {'x': 'y'}.items() %}{{ a + b }}{{ loop.index }}{% endfor %}{{ messages[0] }}",
]


@pytest.mark.parametrize("source", EXTENSIONS)
def test_templates_render_as_in_transformers(source: str) -> None:
    """Extensions, filters and methods, with literals and texts mixed."""
    transformers = pytest.importorskip("transformers.utils.chat_template_utils")
    messages = [{"role": "user", "content": "hi"}]
    (expected,), _ = transformers.render_jinja_template([messages], TOOLS, chat_template=source)
    assert rendered(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10 ** 9 }}",
        "{{ [1] * 10 ** 9 }}",
        "{{ 10 ** (10 ** 6) }}",
        "{% set n = namespace(x=10) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{{ 'a' | center(10 ** 9) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ '%1000000000s' | format('x') }}",
        "{{ '%1000000000s' % 'x' }}",
        "{{ '{:1000000000}'.format('x') }}",
        "{{ '%*s' % (1000000000, 'x') }}",
        "{{ messages[0].content.replace('', 'x' * 100000).replace('', 'x' * 100000) }}",
        "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}",
        "{{ ('x' * 100000).join(range(100000) | map('string') | list) }}",
        "{{ ('x' * 200000) | join }}",
        "{% set n = namespace(x=[]) %}{% for i in range(99) %}{% set n.x = n.x + [('x' * 90000)[i:]] %}{% endfor %}",
        "{% set n = namespace(s='x' * 900000) %}{% for i in range(99) %}{% set x = n.s.split('y') %}{% endfor %}",
        "{% set n = namespace(s='x' * 900000) %}{% for i in range(99) %}{% set x = n.s[i:] %}{% endfor %}",
        "{{ ','.join('x' * 200000) }}",
        "{{ range(100000) | join('x' * 100000) }}",
        "{{ ('\n' * 99999) | indent(10000) }}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=[]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
        "{% set n = namespace(x={}) %}{% for i in range(99) %}{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}",
        "{% set n = namespace(x=[]) %}{% for i in range(99) %}{% set n.x = dict(a=n.x, b=n.x) %}{% endfor %}",
        "{% set n = namespace() %}{% set n.x = n %}{{ n }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}x{% endmacro %}{{ f(60) }}",
        "{{ [[1]] | sum(start=[]) }}",
        "{{ range(10 ** 9) | list }}",
        "{{ lipsum(n=100000) }}",
        "{{ (1).to_bytes(100000000) }}",
        "{{ 'x'.encode() }}",
        "{{ '\t'.expandtabs(100000) }}",
        "{% autoescape true %}x{% endautoescape %}",
        "{{ (messages[0].content ~ '<|im_end|>') | center(99) }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "x" * (MAX_TEMPLATE + 1),
    ],
    ids=range(39),
)
def test_templates_that_grow_without_bound_are_refused(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they take memory; what only takes time is stopped by the clock."""
    monkeypatch.setattr(template_limits, "MAX_SECONDS", 1)
    began = time.thread_time()
    with pytest.raises((DamagedModel, OptionError), match="template"):
        rendered(source)
    assert time.thread_time() - began < 20


@pytest.mark.parametrize(
    "source",
    ["{{ 'x'.encode() }}", "{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}"],
)
def test_what_the_sandbox_refuses_is_the_templates_fault(source: str) -> None:
    """It ended with exit code 2, as if the conversation were wrong."""
    with pytest.raises(DamagedModel) as raised:
        rendered(source)
    assert raised.value.exit_code == 4


def test_the_largest_template_is_compiled_in_bounded_memory() -> None:
    """Empty blocks are what Jinja2 makes most code of: a megabyte of them took 12 s and 600 MB."""
    block = "{% if a %}{% endif %}"
    began = time.thread_time()
    assert rendered(block * (MAX_TEMPLATE // len(block))) == ""
    assert time.thread_time() - began < 20
    with pytest.raises(DamagedModel, match="has more than 65,536 characters, the limit"):
        rendered(block * (MAX_TEMPLATE // len(block) + 1))


def test_templates_that_never_end_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their own processor time, so that a busy machine does not stop an ordinary one."""
    monkeypatch.setattr(template_limits, "MAX_SECONDS", 0.05)
    endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"
    with pytest.raises(DamagedModel, match="takes more than"):
        rendered(endless)
    time.sleep(0.06)
    assert rendered("{{ messages[0].content }}") == "hi"


def test_long_conversations_stay_within_the_limits() -> None:
    """The limits grow with the messages: the longest that a prompt may have are rendered."""
    source = (FOLDER / "chat_template.jinja").read_text("utf-8")
    template = ChatTemplate(source, TINY, TINY.token_to_id("<|image_pad|>"))
    messages = [Message("user", ("x\n" * 2000,)), Message("assistant", ("y" * 4000,))] * 200
    assert len(template.render(messages, TOOLS)) > 200 * 8000


def test_one_rendering_does_not_use_the_limits_of_another() -> None:
    """Requests of several threads share the environment."""
    environment = TemplateEnvironment(re.compile("(?!)"))
    template = environment.from_string("{% for i in range(100) %}{{ x }}{% endfor %}")
    failed: list[BaseException] = []

    def render() -> None:
        try:
            for _ in range(5):
                with environment.rendering(10_000):
                    template.render(x="y" * 10_000)
        except BaseException as error:  # noqa: BLE001 - reported by the test
            failed.append(error)

    threads = [threading.Thread(target=render) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with environment.rendering(0), pytest.raises(TemplateLimitError):
        template.render(x="y" * 100_000)
