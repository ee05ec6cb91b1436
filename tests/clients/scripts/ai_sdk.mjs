// The AI SDK with its provider for services that speak OpenAI's format, and with OpenAI's own provider.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, streamText, tool } from "ai";
import { z } from "zod";
import * as checks from "./checks.mjs";

const compatible = createOpenAICompatible({
  name: "vlrun",
  baseURL: checks.API,
  apiKey: checks.KEY,
  supportsStructuredOutputs: true,
})(checks.MODEL);
const openai = createOpenAI({ baseURL: checks.API, apiKey: checks.KEY })(checks.MODEL); // the Responses API
const counts = z.object({ bottles: z.number().int(), cans: z.number().int() });
const message = (text) => [
  { role: "user", content: [{ type: "text", text }, { type: "file", data: checks.SHELF, mediaType: "image/png" }] },
];

async function withBoth(check) {
  for (const model of [compatible, openai]) await check(model);
}

await checks.run("ai", {
  text: () =>
    withBoth(async (model) => {
      const { text } = await generateText({ model, prompt: checks.HELLO });
      checks.equal(text, checks.HELLO_ANSWER);
    }),
  picture: () =>
    withBoth(async (model) => {
      const { text } = await generateText({ model, messages: message(checks.HOW_MANY) });
      checks.equal(text, checks.HOW_MANY_ANSWER);
    }),
  stream: () =>
    withBoth(async (model) => {
      let text = "";
      for await (const part of streamText({ model, prompt: checks.HELLO }).textStream) text += part;
      checks.equal(text, checks.HELLO_ANSWER);
    }),
  schema: () =>
    withBoth(async (model) => {
      const output = Output.object({ schema: counts });
      const answer = await generateText({ model, messages: message(checks.COUNT), output });
      checks.equal(answer.output, checks.COUNTS);
    }),
  tools: () =>
    withBoth(async (model) => {
      const tools = { report_count: tool({ description: "Report the counts.", inputSchema: counts }) };
      const answer = await generateText({ model, messages: message(checks.COUNT), tools, toolChoice: "required" });
      checks.equal(answer.toolCalls.map((call) => call.input), [checks.COUNTS]);
    }),
});
