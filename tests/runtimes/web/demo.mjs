// node demo.mjs CHROMIUM PACKAGES FOLDER JOB: uses the page that was built in FOLDER as a person would, in headless
// Chromium. JOB is JSON: strokes in 0..1 to draw, files to drop, widths to take pictures at and where. What the page
// says is JSON on standard output.
import { join } from "node:path";
import { withPage } from "./serve.mjs";

const [executablePath, packages, folder, job] = process.argv.slice(2);
const { drawings, files, widths, pictures } = JSON.parse(job);
const fileOf = (path) => join(folder, path === "/" ? "index.html" : path);

async function draw(page, strokes) {
  await page.click("#clear");
  const box = await page.locator("#pad").boundingBox();
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => [box.x + x * box.width, box.y + y * box.height]);
    await page.mouse.move(...points[0]);
    await page.mouse.down();
    for (const point of points.slice(1)) await page.mouse.move(...point, { steps: 4 });
    await page.mouse.up();
  }
  await page.waitForFunction("document.getElementById('digit').textContent !== '–'");
  return page.textContent("#digit");
}

async function drop(page, file) {
  await page.evaluate("document.getElementById('type').textContent = '…'");
  await page.setInputFiles("#file", file);
  await page.waitForFunction("document.getElementById('type').textContent !== '…'");
  return page.textContent("#type");
}

const rowsOf = (page, id) =>
  page.$$eval(`#${id} tr`, (rows) => rows.map((row) => [...row.children].map(({ textContent }) => textContent)));

const report = await withPage({ executablePath, packages, fileOf }, async (page, address) => {
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(address);
  await page.waitForFunction("document.documentElement.dataset.loaded");
  const digits = [];
  for (const strokes of drawings) digits.push(await draw(page, strokes));
  const types = [];
  for (const file of files) types.push(await drop(page, file));
  const tables = { digits: await rowsOf(page, "digits"), file_types: await rowsOf(page, "file_types") };
  const wider = [];
  for (const width of widths) {
    await page.setViewportSize({ width, height: 1000 });
    wider.push(await page.evaluate("document.documentElement.scrollWidth"));
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: join(pictures, `demo_${width}_${colorScheme}.png`), fullPage: true });
    }
  }
  const elsewhere = asked.filter((url) => !url.startsWith(address) && !url.startsWith("data:"));
  return { digits, types, tables, scroll_widths: wider, elsewhere };
});
process.stdout.write(JSON.stringify(report));
