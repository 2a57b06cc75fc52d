// Slice viewer: swipe between two reconstructions of one slice, their error maps, window and level.
"use strict";
(() => {
  const source = document.getElementById("v-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const $ = (name) => document.getElementById("v-" + name);
  const canvas = $("canvas"), context = canvas.getContext("2d");
  const decoded = new Map();
  let drawing = 0;

  // inferno, sampled at nine points
  const STOPS = [[0, 0, 4], [27, 12, 66], [75, 12, 107], [120, 28, 109], [165, 44, 96], [207, 68, 70], [237, 105, 37], [251, 155, 6], [252, 255, 164]];
  const HEAT = Array.from({ length: 256 }, (_, i) => {
    const at = i / 255 * (STOPS.length - 1), low = Math.min(Math.floor(at), STOPS.length - 2), part = at - low;
    return STOPS[low].map((value, c) => Math.round(value + part * (STOPS[low + 1][c] - value)));
  });

  const volume = () => data.volumes[Number($("volume").value)];
  const slice = () => volume().slices[Number($("slice").value)];

  // grey values (0 to 255) of a data URI
  function pixels(uri) {
    if (!decoded.has(uri)) {
      decoded.set(uri, new Promise((resolve, reject) => {
        const image = new Image();
        image.onload = () => {
          const board = document.createElement("canvas");
          board.width = image.width;
          board.height = image.height;
          const pen = board.getContext("2d", { willReadFrequently: true });
          pen.drawImage(image, 0, 0);
          const rgba = pen.getImageData(0, 0, image.width, image.height).data;
          resolve(Uint8Array.from({ length: rgba.length / 4 }, (_, i) => rgba[4 * i]));
        };
        image.onerror = () => reject(new Error("an image of the viewer cannot be decoded"));
        image.src = uri;
      }));
    }
    return decoded.get(uri);
  }

  function colour(value, error, window, level) {
    if (error) return HEAT[value];
    const grey = Math.max(0, Math.min(255, Math.round(255 * ((value / 255 * 100 - level) / window + 0.5))));
    return [grey, grey, grey];
  }

  async function draw() {
    const ticket = ++drawing;
    const [height, width] = volume().size, error = $("error").checked;
    const sides = [$("left").value, $("right").value];
    const uris = sides.map((model) => slice().images[model][error ? 1 : 0]);
    const grey = await Promise.all(uris.map((uri) => uri ? pixels(uri) : new Uint8Array(width * height)));
    if (ticket !== drawing) return;  // a later change has overtaken this one
    const scale = Math.max(1, Math.ceil(768 / width));  // the divider stays thin on small images
    if (canvas.width !== scale * width || canvas.height !== scale * height) {
      [canvas.width, canvas.height] = [scale * width, scale * height];
    }
    const board = new OffscreenCanvas(width, height), pen = board.getContext("2d");
    const picture = pen.createImageData(width, height), cut = Math.round(width * Number($("swipe").value) / 100);
    const window = Number($("window").value), level = Number($("level").value);
    for (let i = 0; i < width * height; i++) {
      const side = i % width < cut ? 0 : 1;
      picture.data.set([...colour(grey[side][i], error, window, level), 255], 4 * i);
    }
    pen.putImageData(picture, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(board, 0, 0, scale * width, scale * height);
    if (cut > 0 && cut < width) {
      context.fillStyle = "rgba(124, 196, 255, 0.8)";
      context.fillRect(scale * cut - 1, 0, 2, scale * height);
    }
    describe(sides, error);
  }

  function describe(sides, error) {
    const v = volume(), quality = sides.map((m) => m in v.psnr ? `${m} (${v.psnr[m].toFixed(2)} dB)` : m);
    [$("name-left").textContent, $("name-right").textContent] = quality;
    $("slice-out").textContent = `${slice().number} of ${v.total}`;
    $("swipe-out").textContent = `${$("swipe").value} %`;
    $("window-out").textContent = `${$("window").value} %`;
    $("level-out").textContent = `${$("level").value} %`;
    for (const name of ["window", "level"]) $(name).disabled = error;
    $("bar").hidden = !error;
    $("bar-top").textContent = `≥ ${(100 * v.error).toFixed(1)} % of the volume’s maximum`;
    $("status").textContent = `${v.cohort}, ${v.name}, slice ${slice().number}: ${error ? "error maps, " : ""}left ${quality[0]}, right ${quality[1]}`;
    canvas.setAttribute("aria-label", $("status").textContent);
  }

  function options(select, names) {
    select.replaceChildren(...names.map(([value, text]) => new Option(text, value)));
  }

  function chooseVolume() {
    $("slice").max = volume().slices.length - 1;
    $("slice").value = Math.floor(volume().slices.length / 2);
    draw();
  }

  function reset() {
    $("swipe").value = 50;
    $("window").value = 100;
    $("level").value = 50;
    $("error").checked = false;
    draw();
  }

  function nudge(name, by) {
    $(name).value = Number($(name).value) + by;
    draw();
  }

  const KEYS = {
    ArrowUp: () => nudge("slice", 1), ArrowDown: () => nudge("slice", -1),
    ArrowLeft: () => nudge("swipe", -5), ArrowRight: () => nudge("swipe", 5),
    w: () => nudge("window", -5), W: () => nudge("window", 5),
    l: () => nudge("level", -5), L: () => nudge("level", 5),
    e: () => { $("error").checked = !$("error").checked; draw(); }, r: reset,
  };
  canvas.addEventListener("keydown", (event) => {
    const action = KEYS[event.key] || KEYS[event.key.toLowerCase()];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    const box = canvas.getBoundingClientRect();
    $("swipe").value = Math.round(100 * (event.clientX - box.left) / box.width);
    draw();
  });
  $("volume").addEventListener("change", chooseVolume);
  for (const name of ["slice", "swipe", "window", "level"]) $(name).addEventListener("input", draw);
  for (const name of ["left", "right", "error"]) $(name).addEventListener("change", draw);
  $("reset").addEventListener("click", reset);
  $("viewer").querySelector("form").addEventListener("submit", (event) => event.preventDefault());

  options($("volume"), data.volumes.map((v, i) => [i, `${v.cohort}: ${v.name}`]));
  const models = data.models.map((model) => [model, model]);
  options($("left"), models);
  options($("right"), models);
  [$("left").value, $("right").value] = data.first;
  const bar = $("bar-canvas").getContext("2d");
  HEAT.forEach((rgb, i) => { bar.fillStyle = `rgb(${rgb})`; bar.fillRect(i, 0, 1, 10); });
  if (data.volumes.length) chooseVolume();
})();
