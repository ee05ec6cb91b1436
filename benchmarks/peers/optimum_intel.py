"""The workload with optimum-intel's ``OVModelForVisualCausalLM`` on an export of optimum-cli."""

from __future__ import annotations

from transformers import AutoTokenizer, Qwen2VLImageProcessor

from benchmarks.peers.torch_reference import run_workload
from vlrun.bench.workload import SampleWriter, parse_arguments


def main() -> None:
    """Run the workload."""
    options = parse_arguments("The benchmark's workload, run by optimum-intel.")
    samples = SampleWriter(options.began)
    from optimum.intel import OVModelForVisualCausalLM

    with samples.timed("load"):
        model = OVModelForVisualCausalLM.from_pretrained(options.model, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    run_workload(model, tokenizer, Qwen2VLImageProcessor.from_pretrained(options.model), samples, options)


if __name__ == "__main__":
    main()
