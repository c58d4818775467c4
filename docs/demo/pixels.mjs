// What is drawn, as a picture of MNIST: 20 pixels along its longer side, its centre of mass in the middle of 28 x 28.
const SIDE = 28;
const LONGEST = 20;
const INK = 32; // of 255: what counts as drawn

/** Pixels in 0..1, row by row, or null if nothing is drawn. */
export function digitPixels({ data, width, height }) {
  const ink = (x, y) => data[4 * (y * width + x)];
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (ink(x, y) >= INK) {
        [left, right] = [Math.min(left, x), Math.max(right, x)];
        [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
      }
  if (right < 0) return null;
  const step = Math.max(right - left + 1, bottom - top + 1) / LONGEST;
  const shrunk = new Float32Array(SIDE * SIDE);
  let [mass, momentX, momentY] = [0, 0, 0];
  for (let row = 0; row < SIDE; row++)
    for (let column = 0; column < SIDE; column++) {
      const value = mean(ink, left + column * step, top + row * step, step, right, bottom) / 255;
      shrunk[row * SIDE + column] = value;
      mass += value;
      momentX += value * column;
      momentY += value * row;
    }
  const [byX, byY] = [Math.round(SIDE / 2 - momentX / mass - 0.5), Math.round(SIDE / 2 - momentY / mass - 0.5)];
  const pixels = new Float32Array(SIDE * SIDE);
  for (let row = 0; row < SIDE; row++)
    for (let column = 0; column < SIDE; column++) {
      const [x, y] = [column + byX, row + byY];
      if (x >= 0 && x < SIDE && y >= 0 && y < SIDE) pixels[y * SIDE + x] = shrunk[row * SIDE + column];
    }
  return pixels;
}

/** Mean of a square, which counts as empty beyond what is drawn. */
function mean(ink, left, top, size, right, bottom) {
  let [sum, count] = [0, 0];
  for (let y = Math.floor(top); y < top + size; y++)
    for (let x = Math.floor(left); x < left + size; x++) {
      count++;
      if (x <= right && y <= bottom) sum += ink(x, y);
    }
  return count ? sum / count : 0;
}
