"""Answers in Chromium: Markdown, formulas, JSON as tree and table, CSV, counts, votes; with hostile input."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtime.server.web.accessibility import serious_issues
from tests.runtime.server.web.components import Components

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from tests.runtime.server.web.browser import Contexts

pytestmark = pytest.mark.slow

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg onload='window.hacked = 1'><style>@import url(https://evil.example)</style></svg>",
    "<iframe src='https://evil.example'></iframe><object data=x></object><embed src=x>",
    "<a href='javascript:window.hacked=1' id=x name=y style='position:fixed' onclick='window.hacked=1'>a</a>",
    "[a](javascript:window.hacked=1) [b](data:text/html,<script>1</script>) [c](vbscript:x) [d](//e.example) [e](/x)",
    "![i](https://evil.example/pixel.png) <https://evil.example> ![i](data:image/svg+xml,<svg/>)",
    "<table background='https://evil.example'><tr><td style='x' onmouseover=x>cell</td></tr></table>",
    "<form action='https://evil.example'><input name=q><button>b</button></form><style>*{display:none}</style>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.hacked=1></style></mglyph></table></mtext></math>",
    "<b>ok<script>window.hacked = 1</script></b> H<sub>2</sub>O <details open ontoggle=window.hacked=1>d</details>",
    "```html\n<script>window.hacked = 1</script>\n```\n\n```\"onload=x class='y'\ncode\n```",
    "$\\href{javascript:window.hacked=1}{x}$ $\\htmlStyle{color:red}{x}$ $\\includegraphics{https://evil.example/x.png}$",
    "$\\def\\a{\\a\\a}\\a$ $\\rule{9999em}{9999em}$ $</math><img src=x onerror=window.hacked=1>$",
    "[x]: javascript:window.hacked=1\n\n[x] <code class='markdown viewer-pane'>c</code>",
    "\u202eevil\u202c \x00 \ufffd [\u2028](https://a.example)",
]
TAGS = frozenset(
    "a b blockquote br code del div em h1 h2 h3 h4 h5 h6 hr i kbd li ol p pre s span strong sub sup table tbody td th "
    "thead tr u ul button math semantics mrow mi mn mo msup mspace mstyle mtext mpadded merror".split()
)
ATTRIBUTES = frozenset(
    "href class start colspan rowspan align target rel title tabindex role aria-label type xmlns display data-mark "
    "mathvariant width height depth voffset stretchy fence separator lspace rspace mathcolor mathbackground "
    "scriptlevel displaystyle".split()
)


@pytest.fixture
def site(component_origin: str) -> str:
    return component_origin


@pytest.fixture
def tab(contexts: Contexts, context: BrowserContext) -> Page:
    return contexts.kept_page(context)


@pytest.fixture
def components(page: Page, site: str, language: str) -> Components:
    return Components(page, site, language)


def test_hostile_markdown_becomes_text(components: Components, page: Page) -> None:
    for text in [*HOSTILE, "\n\n".join(HOSTILE)]:
        components.answer(text=text)
        page.wait_for_timeout(50)
        elements = page.locator(".answer *").evaluate_all(
            "all => all.map(each => [each.localName, each.getAttributeNames(), each.getAttribute('href')])"
        )
        assert {name for name, _, _ in elements} <= TAGS, text
        assert {attribute for _, attributes, _ in elements for attribute in attributes} <= ATTRIBUTES, text
        assert all(href is None or href.startswith("https://") for _, _, href in elements), text
    assert page.evaluate("window.hacked") is None
    components.answer(text=HOSTILE[0])
    assert "window.hacked = 1" in page.locator(".answer").inner_text(), "nothing of the answer is hidden"
    components.answer(text="[paypal.com](https://evil.example/login)")
    link = page.get_by_role("link")
    assert link.inner_text() == "paypal.com (https://evil.example/login)"
    assert link.get_attribute("rel") == "noopener noreferrer nofollow"


def test_markdown_tables_code_and_formulas(components: Components, page: Page) -> None:
    text = (
        "# Title\n\n| a | b |\n|---|--:|\n| 1 | $5 and $10 |\n\n```python\nprint(1)\n```\n\n"
        "Energy $E = mc^2$ and \\(a_1 * b_2 * c\\), but $5 and $6.\n\n"
        "$$\\frac{1}{2}$$\n\n\\[ x^2 \\]\n\nbad $\\frac{$ here"
    )
    components.answer(text=text)
    components.until("document.querySelectorAll('.answer math').length === 4")
    assert page.locator("math[display=block]").count() == 2
    assert "$5 and $6" in page.locator(".answer").inner_text()
    assert page.locator("td").nth(1).inner_text() == "$5 and $10"
    assert page.locator("annotation").count() == 0
    page.get_by_role("button", name="Copy code").click()
    page.wait_for_selector(".code-copy:text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == "print(1)"


def test_a_growing_answer_keeps_its_finished_blocks(components: Components, page: Page) -> None:
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    text = f"First **bold** paragraph.\n\n- one\n- two\n\n{table}\n\n[link](https://a.example) `code` end"
    page.evaluate("window.first = null")
    for end in range(1, len(text) + 1, 3):
        components.answer(text=text[:end], streaming=True)
        shown = page.locator(".answer").inner_text()
        assert "**" not in shown, text[:end]
        assert "|" not in shown.replace(" | ", ""), text[:end]
        assert "https" not in shown or "(https://a.example)" in shown
        if end == 28:
            page.evaluate("window.first = document.querySelector('.block p')")
    components.answer(text=text)
    assert page.evaluate("window.first === document.querySelector('.block p')"), "it was rendered once"
    assert page.locator("table td").count() == 2


def test_json_answers_while_they_grow_and_as_table_tree_and_text(components: Components, page: Page) -> None:
    from playwright.sync_api import expect

    report = {"damaged": True, "damages": [{"part": "door", "cost": 12.5}, {"part": "<b>lamp</b>", "other": None}]}
    text = json.dumps(report).replace("12.5", "12.50")
    for end in range(0, len(text), 7):
        components.answer(text=text[:end], format="json", streaming=True)
        assert page.locator(".answer").inner_text().startswith(text[:end].strip())
    components.answer(text=text, format="json", value=report)
    tables = page.locator("figure.json-table")
    assert tables.count() == 2
    assert tables.nth(1).locator("th").all_inner_texts() == ["part", "cost", "other"]
    assert tables.nth(1).locator("td").all_inner_texts() == ["door", "12.50", "–", "<b>lamp</b>", "–", "–"]
    tables.nth(1).get_by_role("button", name="Copy CSV").click()
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "part,cost,other\r\ndoor,12.50,\r\n<b>lamp</b>,,\r\n"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    assert json.loads(download.value.path().read_text()) == report

    page.get_by_role("tab", name="Table").focus()
    page.keyboard.press("ArrowRight")
    rows = page.get_by_role("treeitem")
    expect(rows).to_have_count(9)
    rows.first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    expect(rows).to_have_count(3)
    page.keyboard.press("Enter")
    expect(rows).to_have_count(9)
    page.keyboard.press("End")
    expect(rows.last).to_be_focused()
    assert rows.last.inner_text().replace("\n", "") == "othernull"
    page.get_by_role("tab", name="Text").click()
    assert page.locator("pre").inner_text() == text


def test_strange_json(components: Components, page: Page) -> None:
    markup, number = "<img src=x onerror=window.hacked=1>", "12345678901234567890"
    strange = f'{{"__proto__": {{"a": 1}}, "constructor": "x", "{markup}": {number}, "toString": 1.10}}'
    components.answer(text=strange, format="json")
    cells = page.locator("td").all_inner_texts()
    assert cells[2:] == ["constructor", "x", markup, number, "toString", "1.10"]
    components.answer(text=json.dumps([{"__proto__": 1}, {"b": 2}]).replace('"b"', '"constructor"'), format="json")
    assert page.locator("td").all_inner_texts() == ["1", "–", "–", "2"]
    assert page.evaluate("({}).a") is None

    deep = "[" * 1000 + "1" + "]" * 1000
    components.answer(text=deep, format="json")
    page.get_by_role("tab", name="Tree").click()
    page.get_by_role("button", name="Expand").click()
    assert page.get_by_role("treeitem").count() > 500
    page.get_by_role("button", name="Collapse").click()
    assert page.get_by_role("treeitem").count() == 2
    for text in ("null", "5", '"text"', "[]", "{}", "[[]]", "[null]", "[1, {}]", '{"a":', "not json", "", "[" * 50_000):
        components.answer(text=text, format="json")
        assert page.locator(".answer").count() == 1, text
    assert page.evaluate("window.hacked") is None


def test_large_answers_are_bounded(components: Components, page: Page) -> None:
    rows = [{"name": f"row {row}", "value": row} for row in range(10_000)]
    components.answer(text=json.dumps(rows), format="json")
    assert page.locator("tbody tr").count() == 100
    page.get_by_role("button", name="Show 1,000 more").click()
    assert page.locator("tbody tr").count() == 1100
    page.get_by_role("tab", name="Tree").click()
    assert page.get_by_role("treeitem").count() <= 120
    pieces = (("word ", 200_000), ("*", 100_000), ("> ", 5_000), ("[", 50_000), ("$", 50_000), ("|a", 30_000))
    for text in (piece * times for piece, times in pieces):
        components.answer(text=text)
        assert page.locator(".answer").inner_text().strip(), text[:10]
    components.answer(text='["' + "x" * 1_000_000 + '"]', format="json")
    assert page.locator("td").inner_text().endswith("…")


CELLS: list[Any] = [
    "=1+1", "+SUM(A1)", "-2+3", "@cmd", " =1", "\t=1", "\r=1", "\uff1d1", "-5", "+3.5", "1e5", -5, 2.5, 0, None, True,
    'say "hi"', "a,b", "two\nlines", "two\r\nlines", "", "'", {"a": "=1"}, ["x", 1], "中文", "😀", "plain",
]  # fmt: skip


def test_csv_is_read_back_and_holds_no_formula(components: Components, page: Page) -> None:
    written: str = page.evaluate(
        "async table => (await import('/web/answer/csv.js')).toCsv(table)",
        {"title": "", "columns": ["=name", "value"], "rows": [[cell, cell] for cell in CELLS]},
    )
    assert written.endswith("\r\n")
    read = list(csv.reader(io.StringIO(written, newline="")))
    assert len(read) == len(CELLS) + 1
    assert read[0] == ["'=name", "value"]
    for cell, (first, second) in zip(CELLS, read[1:], strict=True):
        assert first == second
        as_json = json.dumps(cell, separators=(",", ":")) if isinstance(cell, bool | dict | list) else str(cell)
        plain = "" if cell is None else as_json
        assert first in (plain, f"'{plain}"), cell
        if first.lstrip()[:1] in ("=", "+", "-", "@", "\uff1d"):
            float(first)


def test_counts_show_bars_and_the_spread_of_votes(components: Components, page: Page) -> None:
    value = {"total": 8, "items": {"apple": 7, "cup": 1}}
    votes = [{"total": {"9": 3, "8": 2}, "items.apple": {"7": 2, "6": 2, "5": 1}, "items.cup": {"1": 5}}]
    components.answer(text=json.dumps(value), value=value, format="json", votes=votes)
    assert page.locator(".count-item").all_inner_texts() == ["apple\n7\n5 to 7", "cup\n1"]
    bar = page.locator(".count-bar").evaluate_all("bars => bars.map(bar => bar.style.width)")
    assert bar[0] == "100%"
    page.get_by_text("2 values differ between the answers").click()
    assert page.locator(".vote dt").all_inner_texts() == ["total", "items.apple"]
    assert page.locator(".vote-number").all_inner_texts() == ["3", "2", "2", "2", "1"]


@pytest.mark.parametrize("language", ["zh"])
def test_words_choose_their_tokens_and_texts_are_chinese(components: Components, page: Page) -> None:
    tokens = ["货架", "上有", " **6", "** 个", "瓶子", "。"]
    components.answer(text="".join(tokens).strip(), tokens=tokens)
    words = page.locator(".word").all_inner_texts()
    assert "".join(words) == "货架上有6个瓶子"
    page.locator(".word", has_text="瓶子").click()
    assert components.state()["tokens"] == [4, 5]
    assert page.locator(".word.active").all_inner_texts() == ["瓶子"]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert components.state()["tokens"] == [3, 4]
    page.keyboard.press("Enter")
    assert components.state()["tokens"] is None, "the same word again: the whole answer"
    assert page.get_by_text("选择一个词").count() == 1


def test_a_chart_is_drawn_again(components: Components, page: Page) -> None:
    points = [[{"x": f"Q{quarter}", "y": quarter * sign} for quarter in range(1, 5)] for sign in (1, -2)]
    series = [{"name": "N", "points": points[0]}, {"name": "S", "points": points[1]}]
    chart = {"title": "Sales", "kind": "bar", "series": series}
    components.answer(text=json.dumps(chart), format="json")
    assert page.get_by_role("img", name="Chart: Sales").locator("rect").count() == 8
    assert page.locator("th").all_inner_texts() == ["x", "N", "S"]
    components.answer(text=json.dumps({**chart, "kind": "line"}), format="json")
    assert page.locator("polyline").count() == 2
    strange_points: list[Any] = [[], [{"x": None, "y": "a"}], [{"x": 1, "y": 0}] * 2, None]
    for odd in ([], *([{"name": 1, "points": points}] for points in strange_points)):
        components.answer(text=json.dumps({**chart, "series": odd}), format="json")
        assert page.locator(".answer").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_issue(components: Components, page: Page) -> None:
    marks = [{"label": "can", "box": [10, 10, 200, 200]}]
    components.viewer(focus=True, marks=marks, enhancedSrc="/examples/shelf_two.png")
    page.get_by_role("button", name="Focus", exact=True).press("Enter")
    markdown = "# Title\n\n| a |\n|---|\n| 1 |\n\n```python\nprint(1)\n```\n\n[a](https://a.example) `b` a can $x^2$"
    span = markdown.index("a can")
    count = {"total": 2, "items": {"can": 2}}
    votes = [{"items.can": {"2": 2, "1": 1}}]
    components.answer(text=markdown, marks=marks, spans=[[span, span + 5]])
    components.until("document.querySelector('math')")
    found = serious_issues(page)
    components.answer(text="A can.", tokens=["A", " can", "."])
    found += serious_issues(page)
    components.answer(text=json.dumps(count), format="json", votes=votes)
    page.get_by_text("1 value differs").click()
    found += serious_issues(page)
    page.get_by_role("tab", name="Tree").click()
    found += serious_issues(page)
    assert not found
