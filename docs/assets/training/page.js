// The controls of the page "Train in your browser".

{
  const [BATCH, TRAINED] = [32, 1440]; // a pass over the training digits is 45 steps
  const [WIDTH, HEIGHT, HIGHEST] = [560, 180, 2.5]; // of the curves, and the loss at their top
  const figure = document.querySelector("figure.training");
  const part = (name) => figure.querySelector(`[data-part="${name}"]`);
  const control = (name) => figure.querySelector(`[name="${name}"]`);
  const rate = () => 10 ** Number(control("rate").value);
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const length = (data) => Math.sqrt(data.reduce((sum, value) => sum + value * value, 0));
  const pad = training.pad(part("pad"), () => see().catch(tell));

  let digits, run; // the run: network, steps, losses, accuracies, seconds, reached, pace
  let drawn = []; // the reader's own examples: [pixels, label]
  let isTraining = false;
  let turn = Promise.resolve(); // what uses the network waits for what used it before

  const alone = (work) => (turn = turn.catch(() => {}).then(work));

  function tell(error) {
    isTraining = false;
    part("status").textContent = `It cannot train. ${packed.why(error)}`;
    part("train").textContent = "Train";
  }

  async function begin() {
    part("status").textContent = "Loading ONNX Runtime …";
    digits ??= await training.digits();
    if (run) await run.network.close();
    run = undefined; // if the next network cannot be loaded, the closed one is not used again
    const network = await training.network(control("rule").value, control("width").value);
    run = { network, steps: 0, losses: [], accuracies: [], seconds: 0, reached: "", pace: "" };
  }

  function batch() {
    const first = (run.steps * BATCH) % TRAINED;
    const images = [...digits.images(first, first + BATCH)];
    const labels = [...digits.labels(first, first + BATCH)];
    for (const [pixels, label] of drawn) {
      images.push(...pixels);
      labels.push(label);
    }
    return [images, labels];
  }

  async function accuracy() {
    const labels = digits.labels(TRAINED, digits.count);
    const y = await run.network.predict(digits.images(TRAINED, digits.count));
    const right = labels.filter((label, i) => {
      const row = y.subarray(10 * i, 10 * i + 10);
      return row.indexOf(Math.max(...row)) === label;
    });
    return right.length / labels.length;
  }

  // Take some steps, and show what they have changed.
  async function advance(count) {
    if (!run) await begin();
    let given;
    const began = performance.now();
    for (let i = 0; i < count; i++) {
      given = batch();
      const loss = await run.network.step(...given, rate());
      run.losses.push([run.steps++, loss / HIGHEST]);
      if (!Number.isFinite(loss)) throw new Error("The loss is not finite: lower the learning rate.");
    }
    const seconds = (performance.now() - began) / 1000;
    run.seconds += seconds;
    run.pace = `${((1000 * seconds) / count).toFixed(2)} ms a step`;
    const share = await accuracy();
    run.accuracies.push([run.steps, share]);
    if (share >= 0.9) run.reached ||= ` · 90 % after ${run.steps} steps, ${run.seconds.toFixed(2)} s`;
    await show(given);
    await seeNow();
  }

  async function show(given) {
    const { network, losses, steps } = run;
    const [gradients, weights] = [network.gradients(), network.weights()];
    const angles = (await network.trueGradients(...given)).map((truth, i) =>
      training.angle(gradients[i], truth),
    );
    const units = [undefined, Number(control("width").value), 10];
    const loss = (losses.at(-1)[1] * HIGHEST).toFixed(3);
    const share = percent(run.accuracies.at(-1)[1]);
    part("status").textContent =
      `Step ${steps} · loss ${loss} · ${share} of other digits right${run.reached} · ${run.pace}`;
    part("loss").setAttribute("d", training.curve(losses, steps, WIDTH, HEIGHT));
    part("accuracy").setAttribute("d", training.curve(run.accuracies, steps, WIDTH, HEIGHT));
    training.drawUnits(part("weights"), weights[0]);
    for (const i of [0, 1, 2]) {
      if (i) training.drawMatrix(part(`gradient-${i}`), gradients[i], units[i]);
      else training.drawUnits(part("gradient-0"), gradients[0]);
      part(`length-${i}`).textContent = length(gradients[i]).toPrecision(2);
      part(`angle-${i}`).textContent = `${angles[i].toFixed(0)}°`;
    }
  }

  async function train() {
    isTraining = true;
    part("train").textContent = "Pause";
    part("status").removeAttribute("aria-live");
    while (isTraining) {
      await alone(() => advance(Number(control("pace").value)));
      await new Promise(requestAnimationFrame);
    }
  }

  function pause() {
    isTraining = false;
    part("train").textContent = "Train";
    part("status").setAttribute("aria-live", "polite");
  }

  async function restart() {
    const goesOn = isTraining;
    pause();
    await alone(begin);
    if (goesOn) return train();
    return alone(() => advance(1));
  }

  // Show what the network makes of the drawing.
  async function seeNow() {
    const pixels = pad.pixels();
    const canvas = part("seen");
    training.drawDigit(canvas, pixels ?? new Float32Array(64));
    const y = pixels && run ? [...(await run.network.predict(pixels))] : Array(10).fill(0);
    const best = y.indexOf(Math.max(...y));
    figure.querySelectorAll(".bars li").forEach((bar, digit) => {
      bar.style.setProperty("--share", y[digit]);
      bar.classList.toggle("best", y[best] > 0 && digit === best);
    });
    part("says").textContent = !pixels ? "Draw a digit." : !run ? "Press Train first." :
      `${best}, with probability ${percent(y[best])}`;
  }

  const see = () => alone(seeNow);

  function teach() {
    const pixels = pad.pixels();
    if (!pixels) return;
    drawn.push([pixels, Number(control("label").value)]);
    part("taught").textContent = `${drawn.length} of your own in each batch.`;
    pad.clear();
    see().catch(tell);
  }

  const does = {
    train: () => (isTraining ? pause() : train()),
    once: () => (pause(), alone(() => advance(1))),
    again: restart,
    clear: () => (pad.clear(), see()),
    teach,
  };

  figure.addEventListener("click", async (event) => {
    try {
      await does[event.target.dataset.do]?.();
    } catch (error) {
      tell(error);
    }
  });
  for (const name of ["rule", "width"])
    control(name).addEventListener("change", () => run && restart().catch(tell));
  const showRate = () => (part("rate").textContent = rate().toPrecision(2));
  control("rate").addEventListener("input", showRate);
  showRate();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) control("pace").value = "45";
  new MutationObserver(() => pad.show()).observe(document.body, {
    attributeFilter: ["data-md-color-scheme"],
  });
  figure.classList.add("ready");
}
