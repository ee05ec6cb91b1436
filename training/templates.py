"""Templates of questions and answers, in English and Chinese."""

from __future__ import annotations

from collections.abc import Sequence

DESCRIBE = {
    "en": ("Describe this image.", "Describe the picture.", "What do you see?", "What is in this image?", "describe"),
    "zh": ("描述这张图片。", "请描述这张图片。", "图片里有什么？", "你看到了什么？"),
}
TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "describe": DESCRIBE,
    "count_kind": {
        "en": (
            "How many {kinds} are there?", "How many {kinds}?", "how many {kinds} are in the picture?",
            "How many {kinds} do you see?", "Count the {kinds}.", "What is the number of {kinds}?",
            "How many {kinds} are on the shelf?", "How many {kinds} can you see in this image?",
        ),
        "zh": ("有几个{zh}？", "图中有多少个{zh}？", "有多少{zh}？", "数一数{zh}。", "一共有几个{zh}？"),
    },
    "count_colour_kind": {
        "en": (
            "How many {colour} {kinds} are there?", "How many {colour} {kinds}?", "Count the {colour} {kinds}.",
            "how many {colour} {kinds} are in the picture?", "How many {colour} {kinds} do you see?",
        ),
        "zh": (
            "有几个{zhcolour}{zh}？", "图中有多少个{zhcolour}{zh}？", "有多少{zhcolour}的{zh}？",
        ),
    },
    "count_items": {
        "en": (
            "How many items are there?", "How many things are there?", "How many items are on the shelf?",
            "Count all items.", "How many items in total?", "how many objects are in the picture?",
        ),
        "zh": ("一共有多少件商品？", "有几件东西？", "图中有多少个物品？", "总共有几个？"),
    },
    "count_shelves": {
        "en": ("How many shelves are there?", "How many shelves?", "Count the shelves."),
        "zh": ("有几层货架？", "货架有几层？"),
    },
    "colour": {
        "en": (
            "What color is the {kind}?", "What colour is the {kind}?", "what is the color of the {kind}?",
            "Which color does the {kind} have?",
        ),
        "zh": ("{zh}是什么颜色？", "{zh}的颜色是什么？"),
    },
    "which_shape": {
        "en": ("What is the {colour} shape?", "Which shape is {colour}?", "what shape is {colour}?"),
        "zh": ("{zhcolour}的是什么形状？", "{zhcolour}的形状是什么？"),
    },
    "exists": {
        "en": (
            "Is there a {colour} {kind}?", "Is there a {colour} {kind} in the picture?",
            "Do you see a {colour} {kind}?",
        ),
        "zh": ("有{zhcolour}的{zh}吗？", "图中有没有{zhcolour}{zh}？"),
    },
    "json": {
        "en": (
            "Count the items as JSON.", "Give the counts as JSON.", "How many of each item are there? Answer in JSON.",
            "Count each kind of item and answer as JSON.", "JSON counts, please.",
        ),
        "zh": ("用JSON给出每种商品的数量。", "请用JSON统计数量。"),
    },
    "where": {
        "en": (
            "Where is the {name}?", "Locate the {name}.", "Find the {name}.",
            "Give the bounding box of the {name}.",
        ),
        "zh": ("{zhname}在哪里？", "找出{zhname}。", "{zhname}的位置？"),
    },
    "price": {
        "en": (
            "What is the price?", "How much does it cost?", "What does the price tag say?", "How much is it?",
            "Read the price tag.", "what's the price on the tag?",
        ),
        "zh": ("价格是多少？", "多少钱？", "价签上写着什么？", "这个多少钱？"),
    },
    "read": {
        "en": (
            "What does the sign say?", "Read the word.", "What is written here?", "What word is printed?",
            "what does it say?", "Which word is on the sign?", "Read the text.",
        ),
        "zh": ("牌子上写着什么？", "读出这个单词。", "上面写的是什么字？", "图中的文字是什么？"),
    },
}  # fmt: skip

ADDED_TEMPLATES: dict[tuple[str, str], tuple[str, ...]] = {
    ("where", "zh"): ("{zhname}在什么地方？", "{zhname}在哪？"),
    ("count_colour_kind", "zh"): ("有几个{zhcolour}的{zh}？", "{zhcolour}的{zh}有多少个？"),
}
"""Wordings by task and language that were added after the tokenizer was trained."""

PLURAL = {"box": "boxes"}
ZH = {
    "bottle": "瓶子", "can": "罐子", "box": "盒子", "bag": "袋子",
    "circle": "圆形", "rectangle": "矩形", "triangle": "三角形",
    "red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色", "orange": "橙色", "purple": "紫色",
    "black": "黑色", "gray": "灰色", "teal": "青色", "brown": "棕色",
}  # fmt: skip

COPY = {
    "en": (
        "Copy this text:\n{text}", "Repeat this:\n{text}", "Write this again:\n{text}", "Transcribe this page:\n{text}",
    ),
    "zh": ("抄写下面的文字：\n{text}", "重复下面的文字：\n{text}"),
}  # fmt: skip
COMMON_WORDS = (
    "the of and to in is are was for on that this with as it be by at from or an not have has can will which what when "
    "where who how many much there here you your I we they he she my our one two three four five six seven eight nine "
    "ten please answer question picture image photo show tell left right top bottom middle above below between next "
    "behind"
).split()

SELF = {
    "en": (("Hello", "Hi", "Who are you?", "What are you?"), "I am the tiny demo model of vlrun. Show me a picture."),
    "zh": (("你好", "你是谁？"), "我是vlrun的小演示模型。给我看一张图片吧。"),
}


def join_names(names: Sequence[str]) -> str:
    """Join names: a, b and c."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def fill(template: str, kind: str, colour: str = "red") -> str:
    """Fill in the names of a kind and a colour."""
    filled = template.format(kind=kind, kinds=plural(kind), zh=ZH[kind], colour=colour, zhcolour=ZH[colour])
    return filled.replace(" a orange", " an orange")


def plural(kind: str) -> str:
    """The English plural of a kind."""
    return PLURAL.get(kind, kind + "s")
