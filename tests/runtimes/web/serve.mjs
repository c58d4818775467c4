// What the browser tests share: a server of files on this machine, and headless Chromium.
import { createServer } from "node:http";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";

const TYPES = {
  ".html": "text/html",
  ".css": "text/css",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".json": "application/json",
};
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Calls `work(page, address)` with a page of Chromium and the address of a server of the files that `fileOf` names. */
export async function withPage({ executablePath, packages, fileOf }, work) {
  const { chromium } = createRequire(join(packages, "package.json"))("playwright-core");
  const server = createServer(async (request, response) => {
    const file = fileOf(decodeURIComponent(new URL(request.url, "http://127.0.0.1").pathname));
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
    return { ...(await work(page, `http://127.0.0.1:${server.address().port}/`)), browser: context.browser()?.version() };
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true });
    server.close();
  }
}
