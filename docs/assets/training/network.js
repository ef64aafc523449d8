// A network that trains in ONNX Runtime: its step and its state are files that lf.export_step wrote.

{
  const PIXELS = 64;
  const LAYERS = [0, 2, 4]; // where dense layers are among the parts, and weights among the gradients

  // The names of a network's tensors without its rule: feedback alignment wraps the params.
  const withoutRule = (state) =>
    Object.fromEntries(
      Object.entries(state).map(([name, of]) => [name.replace(/^(params\.\d)\.params/, "$1"), of]),
    );
  const chosen = (session, tensors) =>
    Object.fromEntries(session.inputNames.map((name) => [name, tensors[name]]));

  // The digits, in the order in which they are trained on: pixels from 0 to 1, and labels.
  training.digits = async () => {
    const bytes = await training.load("digits");
    const count = bytes.length / (PIXELS + 1);
    const images = Float32Array.from(bytes.subarray(0, count * PIXELS), (pixel) => pixel / 16);
    const labels = bytes.subarray(count * PIXELS);
    return {
      count,
      images: (first, last) => images.subarray(first * PIXELS, last * PIXELS),
      labels: (first, last) => labels.subarray(first, last),
    };
  };

  // The angle between two gradients, in degrees.
  training.angle = (a, b) => {
    const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
    const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
    return (Math.acos(Math.min(1, Math.max(-1, cosine))) * 180) / Math.PI;
  };

  training.network = async (rule, width) => {
    const ort = await training.runtime();
    const open = async (name) => ort.InferenceSession.create(await training.load(name));
    const session = await open(`${rule}-${width}.step`);
    const predicting = await open(`predict-${width}`);
    const backpropagation = await open(`bp-${width}.step`);
    const floats = (data, shape) => new ort.Tensor("float32", Float32Array.from(data), shape);
    const batch = (images, labels) => ({
      x: floats(images, [labels.length, PIXELS]),
      target: new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [labels.length]),
    });
    let state = await (await open(`${rule}-${width}.state`)).run({});
    let before = state;

    return {
      // Take a step, and return the loss before it.
      async step(images, labels, learningRate) {
        before = { ...state, "opt_state.learning_rate": floats([learningRate], []) };
        const { loss, ...next } = await session.run({ ...before, ...batch(images, labels) });
        state = Object.fromEntries(
          Object.keys(state).map((name) => [name, next[`next.${name}`]]),
        );
        return loss.data[0];
      },
      // Compute the gradients by backpropagation where the last step was taken.
      async trueGradients(images, labels) {
        const given = { ...withoutRule(before), ...batch(images, labels) };
        const made = await backpropagation.run(chosen(backpropagation, given));
        return LAYERS.map((i) => made[`next.opt_state.gradients.${i}`].data);
      },
      // Compute the probabilities of the ten classes, image after image.
      async predict(images) {
        const x = floats(images, [images.length / PIXELS, PIXELS]);
        const { y } = await predicting.run(chosen(predicting, { ...withoutRule(state), x }));
        return y.data;
      },
      weights: () => LAYERS.map((i) => withoutRule(state)[`params.${i}.weight`].data),
      gradients: () => LAYERS.map((i) => state[`opt_state.gradients.${i}`].data),
      close: () => Promise.all([session, predicting, backpropagation].map((one) => one.release())),
    };
  };
}
