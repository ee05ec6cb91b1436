"""optimum-intel's ``OVModelForVisualCausalLM`` on a folder of optimum-cli."""

from __future__ import annotations

from transformers import AutoTokenizer, Qwen2VLImageProcessor

from benchmarks.peers.torch_reference import run
from vlrun.bench.workload import Samples, arguments


def main() -> None:
    """Run the course."""
    options = arguments("The benchmark's course, run by optimum-intel.")
    samples = Samples(options.began)
    from optimum.intel import OVModelForVisualCausalLM

    with samples.timed("load"):
        model = OVModelForVisualCausalLM.from_pretrained(options.model, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    run(model, tokenizer, Qwen2VLImageProcessor.from_pretrained(options.model), samples, options)


if __name__ == "__main__":
    main()
