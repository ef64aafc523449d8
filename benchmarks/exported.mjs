// Compare and time an exported step in onnxruntime-web, in node and in browsers:
// node exported.mjs FOLDER ROUNDS SECONDS NAME prints JSON: the processor's milliseconds of a step,
// the median of rounds of about so many seconds, and the params' largest differences from those that
// are expected. FOLDER has node_modules and, by name, a step, its first state, a batch and what is
// expected.

export const fetched = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());

function tensor(ort, { type, shape, numbers }) {
  const data = type === "int64" ? BigInt64Array.from(numbers, BigInt) : Float32Array.from(numbers);
  return new ort.Tensor(type, data, shape);
}

export async function open(ort, read, name) {
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(await read(`${name}.step.onnx`));
  let state = await (await ort.InferenceSession.create(await read(`${name}.state.onnx`))).run({});
  const about = JSON.parse(new TextDecoder().decode(await read(`${name}.json`)));
  const batch = Object.fromEntries(
    Object.entries(about.batch).map(([key, of]) => [key, tensor(ort, of)]),
  );
  const expected = new Float64Array((await read(`${name}.expected`)).buffer);

  async function take(count) {
    for (let i = 0; i < count; i++) {
      const { loss, ...next } = await session.run({ ...state, ...batch });
      state = Object.fromEntries(Object.keys(state).map((key) => [key, next[`next.${key}`]]));
    }
  }

  // Take the first steps, and give the largest difference after each of some numbers of them.
  async function compare() {
    const off = [];
    let [taken, place] = [0, 0];
    for (const steps of about.steps) {
      await take(steps - taken);
      taken = steps;
      let largest = 0;
      for (const key of about.compared)
        for (const number of state[key].data) {
          const difference = Math.abs(Number(number) - expected[place++]);
          largest = difference <= largest ? largest : difference; // nan, too
        }
      off.push(largest);
    }
    return off;
  }

  return { take, compare };
}

async function inNode(folder, rounds, seconds, name) {
  const [{ readFile }, { createRequire }, { join }] = await Promise.all(
    ["node:fs/promises", "node:module", "node:path"].map((module) => import(module)),
  );
  const ort = createRequire(import.meta.url)("onnxruntime-web/wasm");
  const read = async (file) => new Uint8Array(await readFile(join(folder, file))).slice();
  const training = await open(ort, read, name);
  const off = await training.compare();
  const once = async (count) => {
    const before = process.cpuUsage();
    await training.take(count);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000 / count;
  };
  const count = Math.max(1, Math.floor((1000 * seconds) / (await once(5))));
  const times = [];
  for (let i = 0; i < rounds; i++) times.push(await once(count));
  return { ms: times.sort((a, b) => a - b)[times.length >> 1], off };
}

if (typeof process !== "undefined") {
  const [folder, rounds, seconds, name] = process.argv.slice(2);
  console.log(JSON.stringify(await inNode(folder, Number(rounds), Number(seconds), name)));
}
