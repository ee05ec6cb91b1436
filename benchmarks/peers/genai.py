"""The workload with openvino-genai's ``VLMPipeline`` on an export of optimum-cli.

``--setting best``: with its fastest hints; ``--setting f32``: in f32, as on a CPU without bf16.
"""

from __future__ import annotations

import numpy as np
import openvino as ov

from vlrun.bench.workload import QUESTIONS, TEXT, WARM_UP_IMAGE, SampleWriter, image, parse_arguments

BEST: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128}
HINTS: dict[str, dict[str, str | int]] = {"": {}, "best": BEST, "f32": {"INFERENCE_PRECISION_HINT": "f32"}}


def main() -> None:
    """Run the workload. Times are genai's own metrics, because its streamer may deliver text late."""
    options = parse_arguments("The benchmark's workload, run by openvino-genai.")
    samples = SampleWriter(options.began)
    import openvino_genai

    with samples.timed("load"):
        pipeline = openvino_genai.VLMPipeline(str(options.model), "CPU", **HINTS[options.setting])

    def ask(question: str, images: list[ov.Tensor], tokens: int) -> tuple[float, float]:
        answer = pipeline.generate(question, images=images, max_new_tokens=tokens, do_sample=False, ignore_eos=True)
        if images and tokens > 2:
            samples.add("prompt_tokens", answer.perf_metrics.get_num_input_tokens())
        return answer.perf_metrics.get_ttft().mean / 1000, answer.perf_metrics.get_tpot().mean / 1000

    ask(TEXT, [], 1)
    samples.add_since_start("start_to_text")
    ask(QUESTIONS[0], [ov.Tensor(np.array(image(WARM_UP_IMAGE))[None])], 2)
    for number in range(options.rounds):
        pil_image = [ov.Tensor(np.array(image(number))[None])]
        ttft, tpot = ask(QUESTIONS[0], pil_image, options.tokens)
        samples.add("ttft_new", ttft)
        samples.add("tpot", tpot)
        for question in QUESTIONS[1:]:
            samples.add("ttft_again", ask(question, pil_image, 2)[0])
    samples.add_memory()


if __name__ == "__main__":
    main()
