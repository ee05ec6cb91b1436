"""Fields of requests that OpenAI or other servers know and this service does not: they are refused by name.

Names alone, each with the value besides null that says no more than leaving it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Unsupported: TypeAlias = Mapping[str, object]

_OPENAI_CHAT = """
    audio function_call functions moderation prediction prompt_cache_options prompt_cache_retention reasoning_effort
    verbosity web_search_options
"""
_OTHER_SERVERS = """
    add_generation_prompt add_special_tokens allowed_token_ids bad_words best_of cache_salt chat_template
    chat_template_kwargs continue_final_message documents echo guided_choice guided_decoding_backend guided_grammar
    guided_json guided_regex guided_whitespace_pattern ignore_eos include_reasoning include_stop_str_in_output
    kv_transfer_params length_penalty logits_processors media_io_kwargs min_tokens mm_processor_kwargs priority
    prompt_logprobs request_id return_token_ids return_tokens_as_token_ids skip_special_tokens
    spaces_between_special_tokens stop_token_ids structured_outputs thinking_token_budget top_a
    truncate_prompt_tokens typical_p use_beam_search vllm_xargs
"""
_OPENAI_RESPONSES = """
    access_programs background_options context_management conversation image max_tool_calls moderation
    previous_response_id prompt prompt_cache_options prompt_cache_retention reasoning
"""

CHAT: Unsupported = dict.fromkeys([*_OPENAI_CHAT.split(), *_OTHER_SERVERS.split()]) | {"logit_bias": {}}
RESPONSES: Unsupported = dict.fromkeys([*_OPENAI_RESPONSES.split(), *_OTHER_SERVERS.split()]) | {"background": False}
TOKENIZE: Unsupported = dict.fromkeys(_OTHER_SERVERS.split())
FORM: Unsupported = {}
