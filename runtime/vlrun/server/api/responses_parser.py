"""``POST /v1/responses`` as a job: what the items and fields of its requests mean.

Knows the endpoint's words; knows neither HTTP nor the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vlrun.server.api.request_parser import (
    ANY_OBJECT,
    Reader,
    check_model,
    check_schema,
    options_within,
    read_as,
    system_first,
    tool_choice,
    with_call,
)
from vlrun.server.api.responses_request import (
    FunctionCallItem,
    FunctionCallOutputItem,
    FunctionChoice,
    InputImage,
    InputItem,
    InputText,
    MessageItem,
    ObjectFormat,
    OutputText,
    Refusal,
    ResponsesRequest,
    SchemaFormat,
)
from vlrun.server.api.unsupported import RESPONSES
from vlrun.server.api_errors import bad_request
from vlrun.server.generation_request import GenerationRequest, Part, RequestMessage
from vlrun.server.limits import ServerLimits
from vlrun.types.options import Options

RENAMED = {"max_tokens": "max_output_tokens", "logprobs": "top_logprobs", "schema": "text.format"}
"""Fields of the request by the names of the options."""


def read_responses(
    value: object, names: Sequence[str], limits: ServerLimits
) -> tuple[GenerationRequest, ResponsesRequest]:
    """A response's request as a job; and as it came, since its answer repeats much of it. ``value``: its JSON;
    ``names``: of the model.

    Raises ApiError: 404 for another model, 400 for whatever else is wrong, with the field.
    """
    request = read_as(_with_types(value), ResponsesRequest, RESPONSES)
    check_model(request.model, names)
    reader = Reader(limits)
    tools = tuple(reader.tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools or ()))
    chosen = request.tool_choice
    mode, name = (None, chosen.name) if isinstance(chosen, FunctionChoice) else (chosen, None)
    job = GenerationRequest(
        turns=_turns(request, reader),
        options=_options(request, limits),
        tools=tools,
        choice=tool_choice(mode, name, request.parallel_tool_calls, tools),
        stream=request.stream is True,
    )
    return job, request


def _with_types(value: object) -> object:
    """Items that leave their type out are messages."""
    if not isinstance(value, dict) or not isinstance(value.get("input"), list):
        return value
    items = [{"type": "message", **item} if isinstance(item, dict) else item for item in value["input"]]
    return {**value, "input": items}


def _options(request: ResponsesRequest, limits: ServerLimits) -> Options:
    """How to answer."""
    if request.top_logprobs and not request.include:
        needed = "top_logprobs needs message.output_text.logprobs in include"
        raise bad_request(needed, "top_logprobs")
    if request.stream_options is not None and not request.stream:
        raise bad_request("stream_options needs stream to be true", "stream_options")
    schema = _schema(request, limits)
    with options_within(RENAMED):
        return Options(
            max_tokens=request.max_output_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            schema=schema,
            logprobs=(request.top_logprobs or 0) if request.include else None,
        )


def _schema(request: ResponsesRequest, limits: ServerLimits) -> Mapping[str, object] | None:
    match request.text.format if request.text else None:
        case ObjectFormat():
            return ANY_OBJECT
        case SchemaFormat(schema=schema):
            check_schema(schema, "text.format.schema", limits)
            return schema
    return None


def _turns(request: ResponsesRequest, reader: Reader) -> tuple[RequestMessage, ...]:
    turns: list[RequestMessage] = []
    if request.instructions is not None:
        turns.append(RequestMessage("system", (reader.text(request.instructions, "instructions"),)))
    params = ["instructions"] * len(turns)
    if isinstance(request.input, str):
        turns.append(RequestMessage("user", (reader.text(request.input, "input"),)))
        return tuple(turns)
    for index, item in enumerate(request.input):
        _add(turns, item, f"input[{index}]", reader)
        params += [f"input[{index}].role"] * (len(turns) - len(params))
    return system_first(turns, params)


def _add(turns: list[RequestMessage], item: InputItem, place: str, reader: Reader) -> None:
    """An item as a turn, or as part of the last one."""
    match item:
        case FunctionCallItem():
            with_call(turns, reader.call(item.call_id, item.name, item.arguments, f"{place}.arguments"))
        case FunctionCallOutputItem():
            reader.result(item.call_id, f"{place}.call_id")
            turns.append(RequestMessage("tool", (reader.text(item.output, f"{place}.output"),)))
        case MessageItem():
            role = "system" if item.role == "developer" else item.role
            turns.append(RequestMessage(role, _parts(item, f"{place}.content", reader)))


def _parts(message: MessageItem, place: str, reader: Reader) -> tuple[Part, ...]:
    """Texts and images of a message, in order."""
    if isinstance(message.content, str):
        return (reader.text(message.content, place),)
    parts = enumerate(message.content)
    return tuple(_part(part, message.role, f"{place}[{index}]", reader) for index, part in parts)


def _part(part: InputText | InputImage | OutputText | Refusal, role: str, place: str, reader: Reader) -> Part:
    said = isinstance(part, OutputText | Refusal)
    if said != (role == "assistant"):
        wanted = "output_text" if role == "assistant" else "input_text"
        raise bad_request(f"{place}.type must be {wanted} in a message of the {role}", f"{place}.type")
    match part:
        case InputImage():
            if role != "user":
                raise bad_request(f"{place} is an image: only the user shows images", f"{place}.type")
            return reader.image(part.image_url, part.detail, f"{place}.image_url")
        case Refusal():
            return reader.text(part.refusal, f"{place}.refusal")
    return reader.text(part.text, f"{place}.text")
