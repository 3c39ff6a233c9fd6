// Drives a headless Chromium for a test: reads a command per line from standard input, as
// JSON, and answers each with a line of JSON, {"value": …} or {"error": "…"}.
//
//	{"do":"open","url":…,"width":…,"height":…,"dark":…,"script":false,"clock":true}   another page; its status
//	{"do":"pass","value":seconds}           lets the time of a page with a clock pass
//	{"do":"text","at":selector}             the text of the first element
//	{"do":"count","at":selector}
//	{"do":"click","at":selector}  {"do":"fill","at":selector,"value":…}  {"do":"press","value":key}
//	{"do":"await","at":selector,"value":text}   until an element has the text, for ten seconds
//	{"do":"eval","value":expression}
//	{"do":"axe"}                            violations of WCAG 2.2 A and AA and of best practices
//	{"do":"shot","value":path}              a picture of the whole page
//	{"do":"trouble"}                        errors of the console and the page, and requests to others
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: process.argv[2],
  // Tests run as root in containers, where Chromium's sandbox and shared memory are not there.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});
let page, origin, trouble = [];

const commands = {
  async open({ url, width = 1280, height = 900, dark = false, script = true, clock = false }) {
    if (page) await page.context().close();
    const context = await browser.newContext({
      viewport: { width, height }, colorScheme: dark ? "dark" : "light", javaScriptEnabled: script, reducedMotion: "reduce",
    });
    page = await context.newPage();
    page.setDefaultTimeout(10000);
    if (clock) await page.clock.install();
    origin = new URL(url).origin;
    page.on("console", (m) => { if (m.type() === "error" || m.type() === "warning") trouble.push("console: " + m.text()); });
    page.on("pageerror", (e) => trouble.push("page: " + e.message));
    page.on("request", (r) => { if (!r.url().startsWith(origin) && !r.url().startsWith("data:")) trouble.push("request to " + r.url()); });
    return (await page.goto(url)).status();
  },
  pass: ({ value }) => page.clock.fastForward(1000 * value),
  text: ({ at }) => page.locator(at).first().innerText(),
  count: ({ at }) => page.locator(at).count(),
  click: ({ at }) => page.locator(at).first().click(),
  fill: ({ at, value }) => page.locator(at).first().fill(value),
  press: ({ value }) => page.keyboard.press(value),
  await: ({ at, value }) => page.locator(at, { hasText: value }).first().waitFor({ timeout: 10000 }),
  eval: ({ value }) => page.evaluate(value),
  async axe() {
    await page.evaluate(axe);
    const found = await page.evaluate(() => globalThis.axe.run());
    return found.violations.map((v) => v.id + ": " + v.help + ": " + v.nodes.map((n) => n.target.join(" ") + " " + n.failureSummary).slice(0, 3).join("; "));
  },
  async shot({ value }) { await page.screenshot({ path: value, fullPage: true }); },
  trouble() {
    const found = trouble;
    trouble = [];
    return found;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[command.do](command)) ?? null };
  } catch (err) {
    answer = { error: err.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
