// OpenAI's client for Node.
import OpenAI from "openai";
import * as checks from "./checks.mjs";

const client = new OpenAI({ baseURL: checks.API, apiKey: checks.KEY });
const chat = (messages, more) => client.chat.completions.create({ model: checks.MODEL, messages, ...more });
const tool = { type: "function", function: { name: "report_count", parameters: checks.COUNT_SCHEMA } };

await checks.run("openai", {
  async text() {
    const answer = await chat([{ role: "user", content: checks.HELLO }]);
    checks.equal(answer.choices[0].message.content, checks.HELLO_ANSWER);
    const response = await client.responses.create({ model: checks.MODEL, input: checks.HELLO });
    checks.equal(response.output_text, checks.HELLO_ANSWER);
  },
  async picture() {
    const answer = await chat(checks.question(checks.HOW_MANY));
    checks.equal(answer.choices[0].message.content, checks.HOW_MANY_ANSWER);
  },
  async stream() {
    let text = "";
    for await (const chunk of await chat([{ role: "user", content: checks.HELLO }], { stream: true })) {
      text += chunk.choices[0]?.delta?.content ?? "";
    }
    checks.equal(text, checks.HELLO_ANSWER);
  },
  async schema() {
    const json_schema = { name: "counts", strict: true, schema: checks.COUNT_SCHEMA };
    const more = { response_format: { type: "json_schema", json_schema } };
    const answer = await chat(checks.question(checks.COUNT), more);
    checks.equal(JSON.parse(answer.choices[0].message.content), checks.COUNTS);
  },
  async tools() {
    const answer = await chat(checks.question(checks.COUNT), { tools: [tool], tool_choice: "required" });
    const calls = answer.choices[0].message.tool_calls;
    checks.equal(calls.map((call) => JSON.parse(call.function.arguments)), [checks.COUNTS]);
  },
});
