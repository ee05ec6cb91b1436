"""The chat template and the end token of a Hugging Face folder, which may lie in several files."""

from __future__ import annotations

from typing import Any

from vlrun.manifest import CHAT_TEMPLATE
from vlrun.models.hf_config.files import TEMPLATE_BYTES, ConfigFiles

TOKENIZER_CONFIG = "tokenizer_config.json"
TEMPLATES = ("chat_template.json", "processor_config.json", TOKENIZER_CONFIG)
"""JSON files that may have the template under the key ``chat_template``."""


def chat_template(files: ConfigFiles) -> str:
    """Read the chat template from the first file that has one. Raises ``files.error``."""
    if files.has(CHAT_TEMPLATE):
        return files.text(CHAT_TEMPLATE, TEMPLATE_BYTES)
    for name in TEMPLATES:
        template = _default(files.json(name).get("chat_template")) if files.has(name) else None
        if template is not None:
            if len(template) > TEMPLATE_BYTES or not _is_unicode(template):
                raise files.error(f"the chat template in {name} of '{files.folder}' is too long or not valid Unicode")
            return template
    raise files.error(f"'{files.folder}' has no chat template ({CHAT_TEMPLATE})")


def end_token(files: ConfigFiles) -> str | None:
    """Return the tokenizer's end token, or None."""
    token = files.json(TOKENIZER_CONFIG).get("eos_token") if files.has(TOKENIZER_CONFIG) else None
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _default(template: Any) -> str | None:
    """Return a template, or the one named ``default`` of several."""
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[0].get("template") if named else None
    return template if isinstance(template, str) else None


def _is_unicode(text: str) -> bool:
    """Return whether the text can be written to a file: JSON allows half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
