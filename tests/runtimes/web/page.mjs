// Runs in the browser: answers the job under /job/ with stock onnxruntime-web, WebAssembly on one thread.
import * as ort from "/ort/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = "/ort/";
ort.env.logLevel = "error";

const ARRAYS = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array, int32: Int32Array, float16: Uint16Array };
const RUNS = 9;

const bytesOf = async (name) => (await fetch(`/job/${encodeURIComponent(name)}`)).arrayBuffer();

const base64 = (values) => {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
};

async function load(name) {
  const bytes = new Uint8Array(await bytesOf(name));
  const started = performance.now();
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  return [session, performance.now() - started];
}

async function runMs(session, feeds) {
  const times = [];
  for (let i = 0; i < RUNS; i++) {
    const started = performance.now();
    await session.run(feeds);
    times.push(performance.now() - started);
  }
  return times.sort((a, b) => a - b)[(RUNS - 1) / 2];
}

async function answer({ model, dense, inputs }) {
  const feeds = {};
  for (const { name, type, shape, file } of inputs) {
    feeds[name] = new ort.Tensor(type, new ARRAYS[type](await bytesOf(file)), shape);
  }
  const [session, load_ms] = await load(model);
  const [plain, dense_load_ms] = await load(dense);
  const outputs = {};
  for (const [name, { type, dims, data }] of Object.entries(await session.run(feeds))) {
    outputs[name] = { type, shape: dims, data: base64(data) };
  }
  const run_ms = await runMs(session, feeds);
  const dense_run_ms = await runMs(plain, feeds);
  await session.release();
  await plain.release();
  return { outputs, load_ms, dense_load_ms, run_ms, dense_run_ms };
}

window.answerAll = async () => {
  const jobs = JSON.parse(new TextDecoder().decode(await bytesOf("job.json")));
  const [first] = await load(jobs[0].dense); // compiles the WebAssembly: no part of any load time
  await first.release();
  const answers = [];
  for (const [index, job] of jobs.entries()) {
    try {
      answers.push(await answer(job));
    } catch (error) {
      throw new Error(`file ${index} of the job: ${error}`);
    }
    document.title = `${index + 1} of ${jobs.length}`;
  }
  return { version: ort.env.versions.web, answers };
};
