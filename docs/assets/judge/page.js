// The controls of the page "Prove a gradient".

{
  const NAMES = ["worker", "modules", "pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm"];
  NAMES.push("pyodide.asm.data", "numpy.js", "numpy.data");
  const PATIENCE = 30000; // ms
  const figure = document.querySelector("figure.judge");
  const part = (name) => figure.querySelector(`[data-part="${name}"]`);
  const load = packed.loader("judge");
  let started;

  // Send a message to a worker, and promise its answer.
  const ask = (worker, message) =>
    new Promise((done, fail) => {
      const late = () => fail(new Error("It takes long. Is there a loop that does not end?"));
      const clock = message.files ? 0 : setTimeout(late, PATIENCE);
      worker.onmessage = ({ data }) => {
        clearTimeout(clock);
        data.error ? fail(new Error(data.error)) : done(data);
      };
      worker.postMessage(message);
    });

  async function start() {
    const contents = await Promise.all(NAMES.map(load));
    const [code, ...files] = contents;
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    const worker = new Worker(url);
    const named = files.map((bytes, i) => [NAMES[i + 1], bytes]);
    await ask(worker, { files: Object.fromEntries(named) });
    return worker;
  }

  // Promise the verdict on functions.
  async function judge(source, given) {
    const worker = await (started ??= start());
    try {
      return JSON.parse((await ask(worker, { source, given })).said);
    } catch (error) {
      worker.terminate();
      started = undefined;
      throw error;
    }
  }

  function show({ verdict, says, line }, source) {
    part("verdict").textContent = verdict;
    part("verdict").className = verdict.replace(" ", "-");
    part("says").replaceChildren(
      ...says.map((sentence) => {
        const item = document.createElement("li");
        item.textContent = sentence;
        return item;
      }),
    );
    part("line").textContent = line ? `${line}  ${source.split("\n")[line - 1]}` : "";
  }

  async function run() {
    const [source, given] = [part("source").value, part("given").value];
    part("status").textContent = started ? "Proving …" : "Loading Python …";
    part("run").disabled = true;
    try {
      const begin = performance.now();
      show(await judge(source, given), source);
      part("status").textContent = `${((performance.now() - begin) / 1000).toFixed(2)} s`;
    } catch (error) {
      part("status").textContent = `It cannot judge. ${packed.why(error)}`;
    }
    part("run").disabled = false;
  }

  function choose() {
    const chosen = figure.querySelector(`script[data-name="${part("examples").value}"]`);
    part("source").value = chosen.textContent.trim();
    part("given").value = chosen.dataset.given;
  }

  part("run").addEventListener("click", run);
  part("examples").addEventListener("change", choose);
  choose();
  figure.judge = judge;
  figure.classList.add("ready");
}
