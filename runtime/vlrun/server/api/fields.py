"""The fields of requests that this service does not use: one table of what is ignored and what is refused by name.

The rule: a hint, or a field whose value asks for what happens anyway, is ignored. A field that would change the answer
is refused. Null means the same as leaving a field out, for unknown fields too. ``docs/fields.md`` is generated from
this table and from the types of requests, and the OpenAPI document contains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class UnusedFields:
    """The unused fields of one kind of object.

    Attributes:
        ignored: Ignored, whatever their value.
        only: Ignored with these values and refused with others.
        refused: Refused by name, as every unknown field is; these are known from OpenAI's API or other servers.
    """

    ignored: frozenset[str] = frozenset()
    only: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()

    def __or__(self, other: UnusedFields) -> UnusedFields:
        """The fields of both."""
        return UnusedFields(self.ignored | other.ignored, {**self.only, **other.only}, self.refused | other.refused)

    def ignores(self, name: str, value: object) -> bool:
        """Whether the field is ignored with this value. 0 is not false, as in JSON."""
        allowed = self.only.get(name, ())
        return value is None or name in self.ignored or any(_same(value, one) for one in allowed)

    def refuses(self, name: str) -> bool:
        """Whether the field is known, and refused with a value that is not ignored."""
        return name in self.only or name in self.refused


def _same(value: object, other: object) -> bool:
    return type(value) is type(other) and value == other


def _unused(ignored: str = "", only: Mapping[str, tuple[object, ...]] | None = None, refused: str = "") -> UnusedFields:
    return UnusedFields(frozenset(ignored.split()), only or {}, frozenset(refused.split()))


NOTHING = _unused()

_HINTS = _unused(
    """
    cache_prompt cache_salt guided_decoding_backend id_slot models priority prompt_cache_key prompt_cache_options
    prompt_cache_retention provider request_id route safety_identifier service_tier session_id store timings_per_token
    usage user verbosity
    """
)
"""Names of users and sessions, and wishes about caches, prices, places, lengths and statistics."""

_OTHER_SERVERS = _unused(
    "keep_alive",
    {
        "add_generation_prompt": (True,),
        "add_special_tokens": (False,),
        "bad_words": ([],),
        "continue_final_message": (False,),
        "detokenize": (True,),
        "documents": ([],),
        "dry_multiplier": (0,),
        "dynatemp_range": (0,),
        "early_stopping": (False,),
        "extra_body": ({},),
        "grammar": ("",),
        "ignore_eos": (False,),
        "include_reasoning": (True,),
        "include_stop_str_in_output": (False,),
        "length_penalty": (1,),
        "logits_processors": ([],),
        "media_io_kwargs": ({},),
        "min_tokens": (0,),
        "mirostat": (0,),
        "mm_processor_kwargs": ({},),
        "n_probs": (0,),
        "num_beams": (1,),
        "plugins": ([],),
        "reasoning_format": ("auto", "deepseek", "parsed"),
        "repeat_penalty": (1,),
        "return_hidden_states": (False,),
        "return_token_ids": (False,),
        "return_tokens_as_token_ids": (False,),
        "separate_reasoning": (True,),
        "skip_special_tokens": (True,),
        "spaces_between_special_tokens": (True,),
        "stop_token_ids": ([],),
        "stream_reasoning": (True,),
        "suffix": ("",),
        "tfs_z": (1,),
        "top_a": (0,),
        "transforms": ([],),
        "typical_p": (1,),
        "use_beam_search": (False,),
        "xtc_probability": (0,),
    },
    refused="""
    allowed_token_ids chat_template guided_choice guided_grammar guided_json guided_regex guided_whitespace_pattern
    kv_transfer_params prompt_logprobs structured_outputs truncate_prompt_tokens vllm_xargs
    """,
)

_EXTENSIONS = _unused(refused="vlrun")
"""Of chat completions only."""
_OF_COMPLETIONS = _unused(only={"best_of": (1,), "echo": (False,)})

CHAT = (
    _HINTS
    | _OTHER_SERVERS
    | _OF_COMPLETIONS
    | _unused(
        "metadata",
        {"function_call": ("auto", "none"), "functions": ([],), "logit_bias": ({}, []), "modalities": (["text"],)},
        "audio moderation prediction web_search_options",
    )
)
COMPLETIONS = (
    _HINTS | _OTHER_SERVERS | _EXTENSIONS | _unused(only={"add_special_tokens": (False, True), "logit_bias": ({}, [])})
)
RESPONSES = (
    _HINTS
    | _OTHER_SERVERS
    | _EXTENSIONS
    | _OF_COMPLETIONS
    | _unused(
        "max_tool_calls",
        {"background": (False,), "context_management": ([],)},
        """
        access_programs background_options chat_template_kwargs conversation image moderation previous_response_id
        prompt thinking_token_budget
        """,
    )
)
TOKENIZE = _HINTS | _OTHER_SERVERS | _EXTENSIONS | _OF_COMPLETIONS | _unused(only={"add_special_tokens": (False, True)})

MESSAGE = _unused("cache_control id metadata name timestamp")
ASSISTANT = MESSAGE | _unused(
    "annotations extra_content parsed phase provider_specific_fields reasoning_details thinking_blocks",
    {"images": ([],), "partial": (False,), "prefix": (False,)},
    "audio function_call",
)
PART = _unused("annotations cache_control id uuid")
FILE = PART | _unused("format", refused="file_id file_url")
VIDEO = PART | _unused("format", refused="file_id")
IMAGE = PART | _unused("format", refused="file_id")
OUTPUT_TEXT = PART | _unused("logprobs")
ITEM = _unused("id phase status", refused="namespace")
REASONING_ITEM = ITEM | _unused("encrypted_content summary")
CALL = _unused("cache_control extra_content index parsed_arguments provider_specific_fields")
TOOL = _unused("allowed_callers annotations cache_control defer_loading input_examples output_schema title")
STREAM_OPTIONS = _unused("continuous_usage_stats include_obfuscation")
TEXT = _unused("verbosity")
REASONING = _unused("generate_summary summary", {"exclude": (False,)})
THINKING = _unused("clear_thinking display")
TEMPLATE_ARGUMENTS = _unused(
    only={"add_generation_prompt": (True,), "add_vision_id": (False,), "continue_final_message": (False,)}
)

OLLAMA_CHAT = _HINTS | _unused("shift truncate")
OLLAMA_PROMPT = OLLAMA_CHAT | _unused(
    only={
        "context": ([],),
        "height": (0,),
        "raw": (False,),
        "steps": (0,),
        "suffix": ("",),
        "template": ("",),
        "width": (0,),
    }
)
OLLAMA_OPTIONS = _unused(
    """
    embedding_only f16_kv logits_all low_vram main_gpu mirostat_eta mirostat_tau num_batch num_ctx num_gpu num_keep
    num_thread numa penalize_newline use_mlock use_mmap vocab_only
    """,
    {"mirostat": (0,), "tfs_z": (0, 1), "typical_p": (0, 1)},
)
"""About loading, memory and threads, of which the service has its own, and samplers that are turned off."""
OLLAMA_MESSAGE = MESSAGE | _unused("tool_call_id tool_name")
OLLAMA_CALL = CALL | _unused("id", {"type": ("function",)})
OLLAMA_MODEL = _unused("insecure keep_alive options stream system template verbose")

MESSAGES = (
    _HINTS
    | MESSAGE
    | _unused(
        "betas diagnostics inference_geo keep_alive speed user_profile_id workspace_id",
        {
            "context_management": (
                {},
                {"edits": []},
                {"edits": [{"type": "clear_thinking_20251015"}]},
                {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            ),
            "mcp_servers": ([],),
        },
        "container",
    )
)
"""Of Anthropic's API. What becomes of earlier reasoning is for the model's template to decide."""
BLOCK = PART | _unused("citations")
DOCUMENT_BLOCK = PART | _unused(only={"citations": ({"enabled": False},), "context": ("",)})
IMAGE_BLOCK = PART | _unused(only={"transformations": ({}, {"oversized_image": "downsize"})})
TOOL_USE = _unused("cache_control caller toolset_name")
TOOL_RESULT = PART | _unused("toolset_name")
THINKING_BLOCK = PART | _unused("signature")
REDACTED_BLOCK = PART | _unused("data")
ANTHROPIC_TOOL = TOOL | _unused("eager_input_streaming")
OUTPUT_CONFIG = _unused("effort")
OUTPUT_FORMAT = _unused("name")
