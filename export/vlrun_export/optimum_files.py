"""The files that openvino-genai and optimum-intel need beside the graphs and the configuration.

openvino-genai runs the tokenizer as an OpenVINO model.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from vlrun.errors import OutputError

TOKENIZER_XML, DETOKENIZER_XML = "openvino_tokenizer.xml", "openvino_detokenizer.xml"


def check_tokenizer_converter() -> None:
    """Raise OutputError unless tokenizers can be converted, before the work begins."""
    if find_spec("openvino_tokenizers") is None:
        raise OutputError(
            "the layout 'optimum' needs the package openvino-tokenizers, whose version must be that of openvino: "
            "pip install 'vlrun[export]'"
        )


def write_tokenizer(folder: Path) -> None:
    """Convert the folder's tokenizer.json to OpenVINO models. Raises OutputError."""
    import openvino as ov
    from openvino_tokenizers import convert_tokenizer
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer.padding_side = tokenizer.truncation_side = "left"
        models = convert_tokenizer(tokenizer, with_detokenizer=True)
        for name, model in zip((TOKENIZER_XML, DETOKENIZER_XML), models, strict=True):
            ov.save_model(model, folder / name)
    except Exception as error:
        raise OutputError(f"openvino-tokenizers cannot convert the tokenizer of this checkpoint: {error}") from error
