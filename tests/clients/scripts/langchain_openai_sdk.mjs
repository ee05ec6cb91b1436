// LangChain's model for OpenAI, in JavaScript.
import { HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import * as checks from "./checks.mjs";

const model = new ChatOpenAI({
  model: checks.MODEL,
  apiKey: checks.KEY,
  configuration: { baseURL: checks.API },
});
const counts = z.object({ bottles: z.number().int(), cans: z.number().int() });
const question = (text) => [new HumanMessage({ content: checks.question(text)[0].content })];

await checks.run("@langchain/openai", {
  async text() {
    checks.equal((await model.invoke(checks.HELLO)).content, checks.HELLO_ANSWER);
  },
  async picture() {
    checks.equal((await model.invoke(question(checks.HOW_MANY))).content, checks.HOW_MANY_ANSWER);
  },
  async stream() {
    let text = "";
    for await (const chunk of await model.stream(checks.HELLO)) text += chunk.content;
    checks.equal(text, checks.HELLO_ANSWER);
  },
  async schema() {
    const answer = await model.withStructuredOutput(counts).invoke(question(checks.COUNT));
    checks.equal(answer, checks.COUNTS);
  },
  async tools() {
    const report = tool(() => "noted", { name: "report_count", description: "Report the counts.", schema: counts });
    const answer = await model.bindTools([report], { tool_choice: "any" }).invoke(question(checks.COUNT));
    checks.equal(answer.tool_calls.map((call) => call.args), [checks.COUNTS]);
  },
});
