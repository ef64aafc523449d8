// What the page "Train in your browser" loads. docs/_tools/browser.py packs each file as a script,
// for a browser loads scripts from the disk, too. Nothing here is loaded before it is asked for.

const training = { packed: {} };

{
  const folder = new URL("packed/", document.currentScript.src);
  const loads = {};

  function run(url, name) {
    return new Promise((done, fail) => {
      const script = document.createElement("script");
      script.src = url;
      script.onload = done;
      script.onerror = () => fail(new Error(`there is no ${name}`));
      document.head.append(script);
    });
  }

  async function unpack(name) {
    await run(new URL(`${name}.js`, folder), name);
    const bytes = Uint8Array.from(atob(training.packed[name]), (char) => char.charCodeAt(0));
    delete training.packed[name];
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(plain).arrayBuffer());
  }

  async function startRuntime() {
    const names = ["runtime", "runtime.module", "runtime.wasm"];
    const [code, module, wasm] = await Promise.all(names.map(training.load));
    const url = (bytes, type) => URL.createObjectURL(new Blob([bytes], { type }));
    await run(url(code, "text/javascript"), "runtime");
    ort.env.wasm.numThreads = 1; // more need a server that isolates the page
    ort.env.wasm.wasmPaths = {
      mjs: url(module, "text/javascript"),
      wasm: url(wasm, "application/wasm"),
    };
    return ort;
  }

  // Promise a file's bytes, or ONNX Runtime: each is loaded once.
  training.load = (name) => (loads[name] ??= unpack(name));
  training.runtime = () => (loads[""] ??= startRuntime());
}
