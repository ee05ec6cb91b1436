"""The Jinja2 environment of chat templates: transformers' extensions, traced text, and bounds on time and memory.

A template comes with a model folder and is not trusted. It runs in Jinja2's immutable sandbox. Every operation whose
result may be larger than its operands is checked first, and every loop and call looks at the clock.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeAlias

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from vlrun.prompt.template_limits import (
    MAX_BITS,
    MAX_ITEMS,
    RenderBudget,
    TemplateLimitError,
    check_format,
    check_numbers,
    check_size,
)
from vlrun.prompt.traced_text import TEMPLATE, TracedText, formatted, joined, origins_of, plain, traced

_REFUSED_FILTERS = ("pprint", "random", "urlize", "xmlattr", "wordwrap", "striptags")
_REFUSED_METHODS = ("encode", "expandtabs", "translate", "maketrans", "to_bytes")
_LONG_TEXT_FILTERS = frozenset(
    "capitalize center count d default e escape first float forceescape format indent int last length lower replace "
    "safe string title tojson trim truncate upper wordcount".split()
)


class _Generation(Extension):
    """``{% generation %}``, by which training code marks answers. It renders what it encloses."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Return a scope with the enclosed nodes."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Callable[[], str]) -> str:
        return caller()


class _Generator(CodeGenerator):
    """Compiles literals to traced text, and makes loops, lists and dicts count."""

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:
        if isinstance(node.value, str):
            self.write(f"environment.literal({str(node.value)!r})")
        else:
            super().visit_Const(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat(map(environment.text, (")
        for operand in node.nodes:
            self.visit(operand, frame)
            self.write(", ")
        self.write(")))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._measured(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._measured(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._measured(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self.write("environment.sliced(")
            super().visit_Getitem(node, frame)
            self.write(")")
        else:
            super().visit_Getitem(node, frame)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        tick = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(tick).set_lineno(node.lineno))
        super().visit_For(node, frame)

    def visit_ScopedEvalContextModifier(self, node: nodes.ScopedEvalContextModifier, frame: Frame) -> None:  # noqa: ARG002
        self.fail("autoescape is not supported in chat templates", node.lineno)

    def _measured(self, visit: Callable[[Any, Frame], None], node: nodes.Expr, frame: Frame) -> None:
        self.write("environment.measured(")
        visit(node, frame)
        self.write(")")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return f"environment.literal({super()._output_const_repr(group)})"

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: CodeGenerator._FinalizeInfo) -> None:  # noqa: ARG002
        self.write("environment.text(")


Filter: TypeAlias = Callable[..., Any]


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Compiles and renders chat templates as transformers does.

    Args:
        control: Matches the names of control tokens, which must not get lost in operations that are not traced.
    """

    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, control: re.Pattern[str]) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, optimized=False, extensions=[_Generation, loopcontrols])
        self.budget = RenderBudget(0)
        self._control = control
        self._literals: dict[str, TracedText] = {}
        self._lock = threading.Lock()
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        del self.globals["lipsum"]
        filters = {**self.filters, "tojson": _to_json, "join": self._join, "string": self.text}
        self.filters = {
            name: self._checked_filter(name, function)
            for name, function in filters.items()
            if name not in _REFUSED_FILTERS
        }

    def concat(self, pieces: Iterable[str], /) -> str:
        """Join the output of a template or macro."""
        kept: list[str] = []
        for piece in pieces:
            self.budget.spend(len(piece))
            kept.append(piece)
        return joined(kept)

    @contextmanager
    def rendering(self, characters: int) -> Iterator[None]:
        """A block in which one template may render messages of so many characters."""
        with self._lock:
            self.budget = RenderBudget(characters)
            yield

    def literal(self, text: str) -> TracedText:
        """Return text that the template itself contains."""
        if text not in self._literals:
            self._literals[text] = TracedText(text, TEMPLATE)
        return self._literals[text]

    def tick(self) -> None:
        """Called in each pass of a loop, by ``call``, which looks at the clock."""

    def text(self, value: object) -> str:
        """Return a value as ``str`` writes it."""
        if isinstance(value, str):
            return value
        return str(self.measured(value))

    def measured(self, value: Any) -> Any:
        """Return the value. Raises TemplateLimitError for containers with too many elements in them."""
        check_size(value)
        return value

    def sliced(self, value: Any) -> Any:
        """Return a slice, and count its characters."""
        return self._settled(value, (value,))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute; methods of texts are traced."""
        return super().getattr(traced(obj) if type(obj) is str else obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an element or attribute; methods of texts are traced."""
        return super().getitem(traced(obj) if type(obj) is str else obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuse what the sandbox refuses, and methods that make bytes or cannot be bounded."""
        return attr not in _REFUSED_METHODS and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return the sandboxed and traced form of ``str.format``."""
        apply = super().wrap_str_format(value)
        if apply is None:
            return None
        template: str = value.__self__

        def wrapper(*args: Any, **kwargs: Any) -> str:
            check_format(template)
            return formatted(lambda positional, named: apply(*positional, **named), template, args, kwargs)

        return wrapper

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function, method or macro within the limits."""
        self.budget.tick()
        if isinstance(obj, Macro):
            return super().call(context, obj, *args, **kwargs)
        arguments = (*args, *kwargs.values())
        if obj is not self.globals["range"]:  # has its own limit
            check_numbers(arguments)
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str):
            method = getattr(obj, "__name__", "")
            if method == "join" and len(args) == 1 and isinstance(args[0], Iterable):
                args = arguments = (list(itertools.islice(args[0], MAX_ITEMS + 1)),)
            self._check_growth(owner, method, arguments)
            arguments = (owner, *arguments)
        return self._settled(super().call(context, obj, *args, **kwargs), arguments)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute within the limits."""
        sized = [value for value in (left, right) if isinstance(value, str | list | tuple)]
        if operator == "+" and sized:
            self.budget.check(sum(map(len, sized)))
        elif operator == "*" and sized:
            times = right if sized[0] is left else left
            self.budget.check(len(sized[0]) * times if isinstance(times, int) else 0)
        elif operator == "%" and isinstance(left, str):
            check_format(left)
            check_numbers(right if isinstance(right, tuple) else (right,))
            left = traced(left)
        elif isinstance(left, int) and isinstance(right, int) and operator in ("*", "**"):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MAX_BITS:
                raise TemplateLimitError(f"it computes a number of more than {MAX_BITS:,} bits")
        return self._settled(super().call_binop(context, operator, left, right), (left, right))

    def _join(self, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        """The filter ``join``, traced."""
        items = list(itertools.islice(value, MAX_ITEMS + 1))
        texts = [self.text(item if attribute is None else self.getitem(item, attribute)) for item in items]
        self._check_growth(d, "join", (texts,))
        return traced(d).join(texts)

    def _checked_filter(self, name: str, function: Filter) -> Filter:
        """Return a filter that gets traced text and keeps the limits."""
        pass_argument = getattr(function, "jinja_pass_arg", None)

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            own, given = (args[:1], args[1:]) if pass_argument else ((), args)
            given = tuple(traced(value) if type(value) is str else value for value in given)
            arguments = (*given, *kwargs.values())
            self._check_filter(name, arguments)
            return self._settled(function(*own, *given, **kwargs), arguments)

        return checked

    def _check_filter(self, name: str, arguments: Sequence[Any]) -> None:
        value, *others = arguments or (None,)
        self.budget.tick()
        check_numbers(others)
        if isinstance(value, str) and len(value) > MAX_ITEMS and name not in _LONG_TEXT_FILTERS:
            raise TemplateLimitError(f"it passes a text of more than {MAX_ITEMS:,} characters to the filter {name}")
        if name == "format" and isinstance(value, str):
            check_format(value)
        elif name == "replace" and isinstance(value, str):
            self._check_growth(value, "replace", others)
        elif name == "indent" and isinstance(value, str):
            widths = [len(width) if isinstance(width, str) else width for width in others[:1]] or [4]
            self.budget.check(len(plain(value).splitlines()) * int(widths[0]))
        elif name == "sum" and not all(isinstance(start, int | float | str | None) for start in others):
            raise TemplateLimitError("it sums lists")
        elif name in ("string", "tojson"):
            self.measured(value)

    def _check_growth(self, text: str, method: str, arguments: Sequence[Any]) -> None:
        """Check a method of a text whose result may be much larger than the text."""
        texts = [argument for argument in arguments if isinstance(argument, str)]
        if method == "replace" and len(texts) >= 2:
            count = text.count(texts[0])
            self._check_pieces(count)
            self.budget.check(len(text) + count * len(texts[1]))
        elif method in ("split", "rsplit", "splitlines"):
            separator = texts[0] if texts else None
            self._check_pieces(text.count(separator) if separator else len(plain(text).split()))
        elif method == "join" and arguments and isinstance(arguments[0], list):
            self._check_pieces(len(arguments[0]))
            self.budget.check(sum(len(text) + len(item) for item in arguments[0] if isinstance(item, str)))

    def _check_pieces(self, count: int) -> None:
        if count > MAX_ITEMS:
            raise TemplateLimitError(f"it cuts a text into more than {MAX_ITEMS:,} pieces")

    def _settled(self, result: Any, arguments: Iterable[Any]) -> Any:
        """Count a result, and give it its origins if the operation was not traced."""
        if isinstance(result, list | tuple):
            self.budget.spend(sum(len(item) for item in result if isinstance(item, str)))
        if isinstance(result, list | tuple | dict):
            return self.measured(result)
        if not isinstance(result, str):
            return result
        self.budget.spend(len(result))
        if isinstance(result, TracedText):
            return result
        sources = [argument for argument in arguments if isinstance(argument, str) and argument]
        if sources and all((origins_of(source) == TEMPLATE).all() for source in sources):
            return TracedText(result, TEMPLATE)
        if any(name in result for source in sources for name in self._control_names(source)):
            raise TemplateLimitError("it mixes control tokens with the messages in a way that cannot be followed")
        return result

    def _control_names(self, text: str) -> Iterator[str]:
        """Yield the names of control tokens that the template wrote into a text."""
        if isinstance(text, TracedText):
            written = origins_of(text) == TEMPLATE
            for match in self._control.finditer(plain(text)):
                if written[match.start() : match.end()].all():
                    yield match.group()


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """``tojson`` as in transformers: without HTML escapes."""
    if isinstance(value, Undefined):
        raise jinja2.UndefinedError("a value that is not defined has no JSON")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    """Return the local time, as templates write it into the system prompt."""
    check_format(form)
    return datetime.now().strftime(form)


def _raise_exception(message: str) -> None:
    """Chat templates call this function for invalid conversations."""
    raise jinja2.TemplateError(message)
