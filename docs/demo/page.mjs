// The page: two networks, each beside its plain file, and what you draw or drop.
import { digitPixels } from "./pixels.mjs";

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const bytesOf = async (name) => {
  const answer = await fetch(`models/${name}`);
  if (!answer.ok) throw new Error(`models/${name} must be there, got ${answer.status}: build the page again`);
  return answer.arrayBuffer();
};

/** A network in a worker of its own. */
class Network {
  constructor(file) {
    this.file = file;
    this.worker = new Worker("worker.mjs", { type: "module" });
    this.waiting = new Map();
    this.sent = 0;
    this.ready = new Promise((resolve, reject) => {
      this.worker.onmessage = ({ data: { ready, id, result, error } }) => {
        if (ready) return resolve();
        const { done, failed } = this.waiting.get(id);
        this.waiting.delete(id);
        error ? failed(new Error(`${file}: ${error}`)) : done(result);
      };
      this.worker.onerror = (event) => reject(new Error(`${file}: ${event.message}`));
    });
  }

  async ask(task, request, moved = []) {
    await this.ready;
    const id = this.sent++;
    return new Promise((done, failed) => {
      this.waiting.set(id, { done, failed });
      this.worker.postMessage({ id, task, ...request }, moved);
    });
  }

  async load(warmUp) {
    const bytes = await bytesOf(this.file);
    this.figures = { bytes: bytes.byteLength };
    Object.assign(this.figures, await this.ask("load", { bytes, warmUp }, [bytes]));
  }

  async run(type, data, shape) {
    const { runMs, values } = await this.ask("run", { type, data, shape });
    this.figures.runMs = runMs;
    return values;
  }
}

const ROWS = [
  ["download", (figures) => `${number.format(figures.bytes)} bytes`],
  ["load", (figures) => `${figures.loadMs.toFixed(0)} ms`],
  ["heap", (figures) => `${(figures.heapBytes / 2 ** 20).toFixed(1)} MB`],
  ["one answer", (figures) => (figures.runMs === undefined ? "" : `${figures.runMs.toFixed(1)} ms`)],
];

/** A compressed network and its plain file, which may be missing. */
class Pair {
  constructor(name) {
    this.name = name;
    this.small = new Network(`${name}.onnx`);
    this.plain = new Network(`${name}_plain.onnx`);
  }

  async load(warmUp) {
    await this.small.load(warmUp);
    this.show();
    await this.plain.load(warmUp).catch((error) => {
      this.plain = null;
      console.info(String(error));
    });
    this.show();
  }

  /** Answers of the small network, and of the plain one if it is here. */
  async run(...input) {
    const answers = [await this.small.run(...input)];
    if (this.plain?.figures?.loadMs !== undefined) answers.push(await this.plain.run(...input));
    this.show();
    return answers;
  }

  show() {
    const columns = [["compressed", this.small], ["plain", this.plain]].filter(([, network]) => network?.figures?.loadMs);
    const head = document.createElement("tr");
    head.append(cell("th", ""), ...columns.map(([title]) => cell("th", title)));
    const rows = ROWS.map(([title, shown]) => {
      const row = document.createElement("tr");
      row.append(cell("td", title), ...columns.map(([, network]) => cell("td", shown(network.figures))));
      return row;
    });
    $(this.name).replaceChildren(head, ...rows);
  }
}

function cell(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

const greatest = (values) => values.reduce((best, value, index) => (value > values[best] ? index : best), 0);

function softmax(logits) {
  const top = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - top));
  const total = powers.reduce((sum, power) => sum + power, 0);
  return powers.map((power) => power / total);
}

// -- digits -----------------------------------------------------------------------------------------------------------

const pad = $("pad").getContext("2d", { willReadFrequently: true });
const digits = new Pair("digits");
let pen = null;

function clear() {
  pad.fillStyle = "#000";
  pad.fillRect(0, 0, 280, 280);
  $("digit").textContent = "–";
  showBars(new Array(10).fill(0));
}

function showBars(shares) {
  $("bars").replaceChildren(
    ...shares.flatMap((share, digit) => {
      const bar = document.createElement("i");
      bar.style.width = `${100 * share}%`;
      return [cell("span", digit), bar];
    }),
  );
}

function draw(event) {
  const box = $("pad").getBoundingClientRect();
  const at = [(event.offsetX * 280) / box.width, (event.offsetY * 280) / box.height];
  pad.strokeStyle = "#fff";
  pad.lineWidth = 22;
  pad.lineCap = pad.lineJoin = "round";
  pad.beginPath();
  pad.moveTo(...(pen ?? at));
  pad.lineTo(...at);
  pad.stroke();
  pen = at;
}

async function readDigit() {
  const pixels = digitPixels(pad.getImageData(0, 0, 280, 280));
  if (!pixels) return;
  const [logits] = await digits.run("float32", pixels, [1, 784]);
  $("digit").textContent = greatest(logits);
  showBars(softmax(logits));
}

$("pad").onpointerdown = (event) => {
  $("pad").setPointerCapture(event.pointerId);
  pen = null;
  draw(event);
};
$("pad").onpointermove = (event) => event.buttons && draw(event);
$("pad").onpointerup = readDigit;
$("clear").onclick = clear;

// -- file types -------------------------------------------------------------------------------------------------------

const fileTypes = new Pair("file_types");
let kinds;

const isSpace = (byte) => byte === 32 || (byte >= 9 && byte <= 13);

/** First and last bytes of a file without the space around them, as magika takes them. */
async function endsOf(file) {
  const { beg_size: first, end_size: last, block_size: block, padding_token: padding } = kinds;
  const head = new Uint8Array(await file.slice(0, block).arrayBuffer());
  const tail = new Uint8Array(await file.slice(Math.max(0, file.size - block)).arrayBuffer());
  const from = head.findIndex((byte) => !isSpace(byte));
  const to = tail.findLastIndex((byte) => !isSpace(byte)) + 1;
  const row = new Int32Array(first + last).fill(padding);
  if (from >= 0) row.set(head.subarray(from, from + first));
  const end = tail.subarray(Math.max(0, to - last), to);
  row.set(end, first + last - end.length);
  return row;
}

async function tellType(file) {
  $("type").textContent = "…";
  const [shares] = await fileTypes.run("int32", await endsOf(file), [1, kinds.beg_size + kinds.end_size]);
  const best = greatest(shares);
  $("type").textContent = `${kinds.target_labels_space[best]} (${(100 * shares[best]).toFixed(0)} %)`;
}

$("file").onchange = ({ target }) => target.files[0] && tellType(target.files[0]);
for (const [event, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  $("drop").addEventListener(event, (happened) => {
    happened.preventDefault();
    $("drop").classList.toggle("over", over);
    if (event === "drop" && happened.dataTransfer.files[0]) tellType(happened.dataTransfer.files[0]);
  });
}

// ---------------------------------------------------------------------------------------------------------------------

clear();
try {
  const warmUp = await bytesOf("digits.onnx");
  kinds = JSON.parse(new TextDecoder().decode(await bytesOf("file_types.json")));
  await digits.load(warmUp);
  await fileTypes.load(warmUp);
  document.documentElement.dataset.loaded = "yes";
} catch (error) {
  document.querySelector("main").prepend(cell("p", `The networks did not load. ${error}`));
  throw error;
}
