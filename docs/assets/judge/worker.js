// Runs Python for the page "Prove a gradient". The page sends the files, then functions to judge.

// Pyodide asks for files by their names: it gets what the page has sent.
const sent = {};
const at = (url) => sent[String(url).split("/").pop()] ?? url;
const [load, open] = [self.importScripts.bind(self), XMLHttpRequest.prototype.open];
self.importScripts = (url) => load(at(url));
XMLHttpRequest.prototype.open = function (method, url, ...how) {
  return open.call(this, method, at(url), ...how);
};
const dependencies = { dependencies: { numpy: [] }, import_name_to_package_name: {}, shared_library: {} };
const fetchFile = self.fetch.bind(self);
self.fetch = (url, ...how) =>
  String(url).endsWith("packages.json")
    ? Promise.resolve(new Response(JSON.stringify(dependencies)))
    : fetchFile(at(url), ...how);

// Functions that Python 3.8 and its numpy lack.
const OLDER = `
import math, numpy
math.ulp = lambda x: float(numpy.spacing(abs(x)))
numpy.broadcast_shapes = lambda *shapes: numpy.broadcast(*map(numpy.empty, shapes)).shape
`;
const WRITE = `
import json, os
for path, text in json.loads(modules).items():
    os.makedirs(os.path.dirname("/judge/" + path), exist_ok=True)
    with open("/judge/" + path, "w") as file:
        file.write(text)
import sys
sys.path.insert(0, "/judge")
from numpy_judge import judge_json
`;
let judge;

async function start(files) {
  for (const [name, bytes] of Object.entries(files)) {
    const type = name.endsWith(".wasm") ? "application/wasm" : "text/javascript";
    sent[name] = URL.createObjectURL(new Blob([bytes], { type }));
  }
  self.importScripts("pyodide.js");
  await loadPyodide({ indexURL: "./" });
  await pyodide.loadPackage("numpy", () => {});
  pyodide.globals.set("modules", new TextDecoder().decode(files.modules));
  pyodide.runPython(OLDER + WRITE);
  judge = pyodide.globals.get("judge_json");
}

self.onmessage = async ({ data }) => {
  try {
    if (data.files) await start(data.files);
    self.postMessage(data.files ? { ready: true } : { said: judge(data.source, data.given) });
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
};
