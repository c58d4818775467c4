// node browser.mjs CHROMIUM PACKAGES JOB: answers the job in the folder JOB in headless Chromium, with the npm packages
// installed in PACKAGES; JSON on standard output.
import { createServer } from "node:http";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [executablePath, packages, job] = process.argv.slice(2);
const { chromium } = createRequire(join(packages, "package.json"))("playwright-core");
const here = dirname(fileURLToPath(import.meta.url));
const ROOTS = { "/": here, "/ort": join(packages, "node_modules", "onnxruntime-web", "dist"), "/job": job };
const TYPES = { ".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json" };
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const server = createServer(async (request, response) => {
  const path = decodeURIComponent(new URL(request.url, "http://127.0.0.1").pathname);
  const file = join(ROOTS[dirname(path)] ?? here, basename(path) || "index.html");
  try {
    const data = await readFile(file);
    response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream" });
    response.end(data);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));

const profile = await mkdtemp(join(tmpdir(), "chromium-"));
const context = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args: FLAGS });
try {
  const page = await context.newPage();
  page.on("console", (message) => console.error(message.text()));
  page.on("pageerror", (error) => console.error(error));
  page.setDefaultTimeout(30_000);
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction("window.answerAll");
  const report = await page.evaluate("window.answerAll()");
  process.stdout.write(JSON.stringify({ ...report, browser: context.browser()?.version() }));
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
  server.close();
}
