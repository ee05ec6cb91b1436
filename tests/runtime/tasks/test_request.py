"""Task requests: contradictory options, defaults, language."""

from __future__ import annotations

import pytest

from vlrun.errors import OptionError
from vlrun.media.region import parse_tiles
from vlrun.tasks.definition import TaskArguments, find_task
from vlrun.tasks.request import TaskRequest
from vlrun.types.options import Options

COUNT = find_task("count")
BOTTLES = TaskArguments(items=("bottle", "can"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TaskRequest(votes=0), "between 1 and 16, not 0"),
        (lambda: TaskRequest(votes=17), "between 1 and 16, not 17"),
        (lambda: TaskRequest(language="fr"), "language must be"),  # type: ignore[arg-type]
        (lambda: TaskRequest(arguments=BOTTLES), "belong to a task"),
        (lambda: TaskRequest(task=COUNT, arguments=TaskArguments(fields=("x",))), "takes no fields"),
        (lambda: TaskRequest(task=find_task("chart"), tiles=parse_tiles("1x2")), "cannot be merged"),
        (lambda: TaskRequest(task=find_task("compare")).check_image_count(1), "at least 2 images"),
    ],
)
def test_contradictory_requests_are_refused(make: object, message: str) -> None:
    """Guards against options that are silently dropped."""
    with pytest.raises(OptionError, match=message):
        make()  # type: ignore[operator]


def test_caller_options_override_task_defaults() -> None:
    request = TaskRequest(task=find_task("locate"), arguments=TaskArguments(items=("can",)))
    options = request.options(Options(max_tokens=7))
    assert (options.temperature, options.presence_penalty, options.max_tokens) == (0, 0, 7)
    assert (options.min_image_tokens, options.auto_image_tokens) == (1024, 2560)
    assert request.options(Options(temperature=0.5, detail="low")).temperature == 0.5
    assert request.options(Options(detail="low")).min_image_tokens is None
    assert request.options(Options(max_image_tokens=300)).min_image_tokens is None
    assert request.options(Options(detail="high")).min_image_tokens == 1024


def test_chinese_items_or_questions_select_the_chinese_prompt() -> None:
    assert TaskRequest(task=COUNT, arguments=TaskArguments(items=("瓶子",))).questions()[0].startswith("数一数")
    assert TaskRequest("请数一数", task=COUNT).questions()[0].startswith("数一数")
    assert TaskRequest(task=COUNT, language="zh").questions()[0].startswith("数一数")
    assert TaskRequest("请数一数", task=COUNT, language="en").questions()[0].startswith("Count")
    assert TaskRequest(votes=2, language="zh").questions() == ("描述这张图片。",)
    assert TaskRequest("几个？", steps=True).questions() == (
        "几个？\n请一步一步思考：逐个部分说出与问题有关的内容。",
        "现在只给出答案。",
    )
