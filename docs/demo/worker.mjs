// One network in stock onnxruntime-web, WebAssembly on one thread. A worker each, so that heaps are apart.
const heaps = new Set();
const { instantiate, instantiateStreaming, Memory } = WebAssembly;
WebAssembly.Memory = class extends Memory {
  constructor(...parameters) {
    super(...parameters);
    heaps.add(this);
  }
};
const seen = (result) => {
  for (const value of Object.values((result.instance ?? result).exports)) if (value instanceof Memory) heaps.add(value);
  return result;
};
WebAssembly.instantiate = async (...parameters) => seen(await instantiate(...parameters));
WebAssembly.instantiateStreaming = async (...parameters) => seen(await instantiateStreaming(...parameters));

const ort = await import("./ort/ort.wasm.min.mjs");
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
ort.env.logLevel = "error";
let session;

const heapBytes = () => [...heaps].reduce((total, { buffer }) => total + buffer.byteLength, 0);

async function load({ bytes, warmUp }) {
  // A few bytes of another network first: compiling the runtime is no part of loading this one.
  await (await ort.InferenceSession.create(new Uint8Array(warmUp))).release();
  const idle = heapBytes();
  const started = performance.now();
  session = await ort.InferenceSession.create(new Uint8Array(bytes));
  return { loadMs: performance.now() - started, heapBytes: heapBytes(), idleBytes: idle };
}

async function run({ type, data, shape }) {
  const feeds = { [session.inputNames[0]]: new ort.Tensor(type, data, shape) };
  const started = performance.now();
  const outputs = await session.run(feeds);
  return { runMs: performance.now() - started, values: outputs[session.outputNames[0]].data };
}

self.onmessage = async ({ data: { id, task, ...request } }) => {
  try {
    self.postMessage({ id, result: await (task === "load" ? load : run)(request) });
  } catch (error) {
    self.postMessage({ id, error: String(error) });
  }
};
self.postMessage({ ready: true });
