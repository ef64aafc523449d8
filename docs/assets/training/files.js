// What the page "Train in your browser" loads: digits, exported steps and ONNX Runtime.

const training = { load: packed.loader("training") };

{
  let runtime;

  async function startRuntime() {
    const names = ["runtime", "runtime.module", "runtime.wasm"];
    const [code, module, wasm] = await Promise.all(names.map(training.load));
    const url = (bytes, type) => URL.createObjectURL(new Blob([bytes], { type }));
    await packed.run(url(code, "text/javascript"), "runtime");
    ort.env.wasm.numThreads = 1; // more need a server that isolates the page
    ort.env.wasm.wasmPaths = {
      mjs: url(module, "text/javascript"),
      wasm: url(wasm, "application/wasm"),
    };
    return ort;
  }

  // Promise ONNX Runtime, which is started once.
  training.runtime = () => (runtime ??= startRuntime());
}
