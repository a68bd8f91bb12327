// Images as planes (3, H, W) of red, green and blue, 0 to 255, and back.

/** Return an image at a size as planes; transparent parts become white. */
export function planesOf(source, { width, height }) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const n = width * height;
  const planes = new Float32Array(3 * n);
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < 3; c++) planes[c * n + i] = data[4 * i + c];
  }
  return planes;
}

/** Return planes as the bytes of ImageData: red, green, blue and opacity of each pixel. */
export function bytesOf(planes) {
  const n = planes.length / 3;
  const data = new Uint8ClampedArray(4 * n); // rounds
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < 3; c++) data[4 * i + c] = planes[c * n + i];
    data[4 * i + 3] = 255;
  }
  return data;
}

/** Return planes at another size. */
export function resized(planes, { width, height }, size) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(bytesOf(planes), width, height), 0, 0);
  return planesOf(canvas, size);
}
