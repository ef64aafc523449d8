// The pad on which a reader draws a digit, by pointer or keys. As in the data set, the drawing
// becomes 32 by 32 points, and each of the 8 by 8 pixels is the share of points set in its square.

training.pad = (canvas, changed) => {
  const [FINE, SIDE] = [32, 8];
  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const size = canvas.width;
  const ink = document.createElement("canvas");
  ink.width = ink.height = size;
  const pen = ink.getContext("2d", { willReadFrequently: true });
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = size / 9;
  let [place, isDown] = [[size / 2, size / 4], false];

  function show() {
    const shown = canvas.getContext("2d");
    shown.clearRect(0, 0, size, size);
    shown.drawImage(ink, 0, 0);
    shown.globalCompositeOperation = "source-in"; // in the colour of text, of either scheme
    shown.fillStyle = getComputedStyle(canvas).color;
    shown.fillRect(0, 0, size, size);
    shown.globalCompositeOperation = "source-over";
    if (document.activeElement !== canvas) return;
    shown.strokeStyle = getComputedStyle(canvas).color;
    shown.beginPath();
    shown.arc(...place, isDown ? pen.lineWidth / 2 : pen.lineWidth, 0, 7);
    shown.stroke();
  }

  function line(to) {
    if (isDown) {
      pen.beginPath();
      pen.moveTo(...place);
      pen.lineTo(...to);
      pen.stroke();
    }
    place = to;
    show();
    changed();
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    const scale = size / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  // The box around what is drawn: [left, top, width, height], or undefined for nothing.
  function bounds() {
    const { data } = pen.getImageData(0, 0, size, size);
    let [left, top, right, bottom] = [size, size, -1, -1];
    for (let i = 0; i < size * size; i++) {
      if (data[4 * i + 3] < 128) continue;
      const [x, y] = [i % size, Math.floor(i / size)];
      [left, top] = [Math.min(left, x), Math.min(top, y)];
      [right, bottom] = [Math.max(right, x), Math.max(bottom, y)];
    }
    return right < 0 ? undefined : [left, top, right - left + 1, bottom - top + 1];
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    place = at(event);
    isDown = true;
    line(place);
  });
  canvas.addEventListener("pointermove", (event) => isDown && event.buttons && line(at(event)));
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, () => (isDown = false));
  for (const turn of ["focus", "blur"]) canvas.addEventListener(turn, show);
  canvas.addEventListener("keydown", (event) => {
    if (event.key !== " " && !(event.key in STEPS)) return;
    event.preventDefault();
    if (event.key === " ") isDown = !isDown;
    const [right, down] = STEPS[event.key] ?? [0, 0];
    const inside = (value) => Math.min(size, Math.max(0, value));
    line([inside(place[0] + (right * size) / 32), inside(place[1] + (down * size) / 32)]);
  });

  return {
    show,
    clear() {
      pen.clearRect(0, 0, size, size);
      isDown = false;
      show();
    },
    // The drawing as the 64 pixels that the network reads, or undefined for nothing drawn.
    pixels() {
      const box = bounds();
      if (!box) return undefined;
      const fine = document.createElement("canvas");
      fine.width = fine.height = FINE;
      const small = fine.getContext("2d", { willReadFrequently: true });
      const scale = FINE / Math.max(box[2], box[3]);
      const [width, height] = [box[2] * scale, box[3] * scale];
      small.drawImage(ink, ...box, (FINE - width) / 2, (FINE - height) / 2, width, height);
      const { data } = small.getImageData(0, 0, FINE, FINE);
      const pixels = new Float32Array(SIDE * SIDE);
      for (let i = 0; i < FINE * FINE; i++) {
        const [row, column] = [Math.floor(i / FINE), i % FINE];
        if (data[4 * i + 3] >= 128) pixels[(row >> 2) * SIDE + (column >> 2)] += 1 / 16;
      }
      return pixels;
    },
  };
};
