// node browser.mjs CHROMIUM PACKAGES JOB: answers the job in the folder JOB in headless Chromium, with the npm packages
// installed in PACKAGES; JSON on standard output.
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { withPage } from "./serve.mjs";

const [executablePath, packages, job] = process.argv.slice(2);
const here = dirname(fileURLToPath(import.meta.url));
const ROOTS = { "/": here, "/ort": join(packages, "node_modules", "onnxruntime-web", "dist"), "/job": job };
const fileOf = (path) => join(ROOTS[dirname(path)] ?? here, basename(path) || "index.html");

const report = await withPage({ executablePath, packages, fileOf }, async (page, address) => {
  await page.goto(address);
  await page.waitForFunction("window.answerAll");
  return page.evaluate("window.answerAll()");
});
process.stdout.write(JSON.stringify(report));
