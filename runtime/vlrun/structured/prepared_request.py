"""A validated request, before the model runs."""

from __future__ import annotations

from dataclasses import dataclass

from vlrun.engine.request import Cancellation, TokenStream
from vlrun.heatmap.attention import heat_of
from vlrun.models.family import ModelFamily
from vlrun.prompt.builder import BuiltPrompt
from vlrun.prompt.output import OutputAccumulator, timings
from vlrun.prompt.reasoning import ReasoningTokens
from vlrun.prompt.tool_calls import find_tool_calls
from vlrun.structured.answer_checks import NO_CHECKS, AnswerChecks
from vlrun.structured.tool_grammar import AnswerGrammar
from vlrun.types.answer import Answer, FinishReason, Usage


@dataclass(frozen=True)
class PreparedRequest:
    """A prompt and the grammar of its answer.

    Attributes:
        prompt: The prompt.
        grammar: Restricts the answer; None allows any text.
        seconds: Time to validate the request, and of that for the grammar.
        cancellation: Cancels the request.
        may_call_tools: Whether the answer may call tools.
        reasoning: The control tokens around the reasoning; None if the output is not split.
    """

    prompt: BuiltPrompt
    grammar: AnswerGrammar | None
    seconds: tuple[float, float]
    cancellation: Cancellation
    may_call_tools: bool
    reasoning: ReasoningTokens | None

    @property
    def checks(self) -> AnswerChecks:
        """What the answer is checked for."""
        return self.grammar.checks if self.grammar else NO_CHECKS

    def answer(
        self, output: OutputAccumulator, stream: TokenStream, family: ModelFamily, load_seconds: float
    ) -> Answer:
        """Return the answer whose tokens have arrived, without a value."""
        prompt, metrics, text, stop = self.prompt, stream.metrics, output.text, output.stop
        subject, grids = prompt.subject, [grid for _, grid in prompt.images]
        reason: FinishReason = "stop" if stop or stream.finish_reason is None else stream.finish_reason
        calls = find_tool_calls(text, family.tool_calls) if self.may_call_tools else ()
        texts = output.token_texts() if prompt.options.heatmap else ()
        placed = list(zip(prompt.prompt.image_offsets, grids, strict=True))
        corners = tuple(image.to_original.corners(*image.size) for image, _ in prompt.images)
        prompt_counts = len(prompt.prompt.ids), sum(grid.tokens for grid in grids), metrics.cached_tokens
        return Answer(
            text,
            reason,
            Usage(*prompt_counts, metrics.tokens, metrics.forward_passes, output.reasoning_tokens),
            timings(load_seconds, *self.seconds, metrics),
            notes=prompt.notes,
            marks=family.find_marks(text, subject.size, subject.to_original) if subject else (),
            tool_calls=calls,
            heat=heat_of(stream.attention, placed, output.answer_start, texts, corners),
            tokens=() if stop else tuple(output.tokens),
            logprobs=tuple(output.logprobs),
            reasoning=output.reasoning,
            opening=output.opening,
            stop=stop,
            times=family.find_times(text, prompt.clip.seconds[-1]) if prompt.clip else (),
        )
