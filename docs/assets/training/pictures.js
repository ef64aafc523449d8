// Pictures of a training run: numbers as coloured squares, and curves.

{
  const SIDE = 8; // of an image

  // The style sheet's colours, which change with the scheme, as numbers.
  function colours() {
    const style = getComputedStyle(document.body);
    const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const names = ["--md-default-bg-color", "--md-typeset-a-color", "--md-accent-fg-color"];
    return names.map((name) => {
      pen.fillStyle = style.getPropertyValue(name);
      pen.fillRect(0, 0, 1, 1);
      return pen.getImageData(0, 0, 1, 1).data;
    });
  }

  // Draw numbers, each a square: the link's colour above 0, the accent's below, 0 the background's.
  function draw(canvas, rows, columns, number, scale) {
    const [zero, above, below] = colours();
    canvas.width = columns;
    canvas.height = rows;
    const pen = canvas.getContext("2d");
    const image = pen.createImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) {
      const value = number(Math.floor(i / columns), i % columns);
      if (value === undefined) continue; // a gap
      const share = Math.min(1, Math.abs(value) / scale);
      const end = value > 0 ? above : below;
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = zero[c] + share * (end[c] - zero[c]);
      image.data[4 * i + 3] = 255;
    }
    pen.putImageData(image, 0, 0);
  }

  const largest = (data) => data.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-30);

  // Draw a matrix of 64 rows as an image for each of its columns: what each unit reads.
  training.drawUnits = (canvas, data) => {
    const units = data.length / SIDE ** 2;
    const across = units > 32 ? 16 : 8;
    const size = (count) => count * (SIDE + 1) - 1;
    draw(canvas, size(units / across), size(across), (row, column) => {
      const [y, x] = [row % (SIDE + 1), column % (SIDE + 1)];
      if (y === SIDE || x === SIDE) return undefined;
      const unit = Math.floor(row / (SIDE + 1)) * across + Math.floor(column / (SIDE + 1));
      return data[(y * SIDE + x) * units + unit];
    }, largest(data));
  };

  // Draw a matrix, a row for each of its columns: one for each unit that it computes.
  training.drawMatrix = (canvas, data, units) => {
    const inputs = data.length / units;
    draw(canvas, units, inputs, (i, j) => data[j * units + i], largest(data));
  };

  training.drawDigit = (canvas, pixels) =>
    draw(canvas, SIDE, SIDE, (i, j) => pixels[i * SIDE + j], 1);

  // Write the path of a curve of pairs (x, share of the height), in a box of this size.
  training.curve = (pairs, last, width, height) =>
    pairs
      .map(([x, share], i) => {
        const place = [(width * x) / last, height * (1 - Math.min(1, share))];
        return (i ? "L" : "M") + place.map((one) => one.toFixed(1)).join(" ");
      })
      .join("");
}
