// Time exported steps in onnxruntime-web: node exported.mjs FOLDER SECONDS NAME ...
// FOLDER has node_modules and, by name, a step, its first state and a batch. Prints JSON, by name:
// the milliseconds of a step, their median, and the losses of the first steps.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const FIRST = 10; // steps whose losses are compared
const [folder, seconds, ...names] = process.argv.slice(2);
const ort = createRequire(join(resolve(folder), "here.js"))("onnxruntime-web/wasm");
ort.env.wasm.numThreads = 1;

const open = (name) => ort.InferenceSession.create(new Uint8Array(readFileSync(join(folder, name))));

function tensor({ type, shape, numbers }) {
  const data = type === "int64" ? BigInt64Array.from(numbers, BigInt) : Float32Array.from(numbers);
  return new ort.Tensor(type, data, shape);
}

const results = {};
for (const name of names) {
  const session = await open(`${name}.step.onnx`);
  let state = await (await open(`${name}.state.onnx`)).run({});
  const batch = JSON.parse(readFileSync(join(folder, `${name}.json`)));
  const given = Object.fromEntries(Object.entries(batch).map(([key, of]) => [key, tensor(of)]));
  const step = async () => {
    const { loss, ...next } = await session.run({ ...state, ...given });
    state = Object.fromEntries(Object.keys(state).map((key) => [key, next[`next.${key}`]]));
    return loss.data[0];
  };
  const losses = [];
  for (let i = 0; i < FIRST; i++) losses.push(await step());
  const times = [];
  const end = performance.now() + 1000 * seconds;
  while (performance.now() < end) {
    const began = performance.now();
    await step();
    times.push(performance.now() - began);
  }
  results[name] = { ms: times.sort((a, b) => a - b)[times.length >> 1], losses };
  await session.release();
}
console.log(JSON.stringify(results));
