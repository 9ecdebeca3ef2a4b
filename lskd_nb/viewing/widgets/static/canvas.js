// An image to draw boxes on: drag for a new one, click an offered (dashed) one to take it, click a drawn one to select it.
const NS = "http://www.w3.org/2000/svg";

function render({ model, el }) {
  const stage = document.createElement("div");
  const picture = document.createElement("img");
  const svg = document.createElementNS(NS, "svg");
  stage.className = "loc-canvas";
  stage.tabIndex = 0;
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-label", "Image: drag to draw a box; B adds one, arrows move it, shift and arrows resize it, delete removes it");
  stage.append(picture, svg);
  el.append(stage);

  let selected = -1;
  let start = null;
  let current = null;
  let shifted = null;
  let moved = null; // the selected box as it was when it was taken hold of
  const size = () => model.get("size");
  const boxes = () => model.get("boxes").map((b) => [...b]);
  const color = (i) => model.get("colors")[i] ?? ["#ffffff33", "#ffffff"];
  const keep = (next, chosen) => {
    selected = Math.min(chosen, next.length - 1);
    model.set("boxes", next);
    model.save_changes();
    draw();
  };

  const shape = (name, attributes, text) => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    svg.append(made);
    return made;
  };
  const rectangle = (b, more) => shape("rect", { x: b[0], y: b[1], width: Math.max(b[2] - b[0], 0), height: Math.max(b[3] - b[1], 0), ...more });

  function draw() {
    const [width, height] = size();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    const unit = width / 480; // strokes and letters are of the same size on any image
    for (const offered of model.get("offered")) rectangle(offered.box, { class: "loc-offered", "stroke-width": 1.5 * unit });
    const drawn = model.get("boxes").map((b, i) => (shifted && i === selected ? shifted : b));
    const all = current ? [...drawn, current] : drawn;
    all.forEach((box, i) => {
      const [fill, outline] = color(i);
      rectangle(box, { fill, stroke: outline, "stroke-width": (i === selected ? 4 : 2.5) * unit, class: "loc-drawn", "data-region": i });
      const side = 18 * unit;
      const y = Math.max(box[1] - side, 0);
      shape("rect", { x: box[0], y, width: side, height: side, fill: outline, stroke: "#111", "stroke-width": unit });
      shape("text", { x: box[0] + side / 2, y: y + 0.78 * side, "font-size": 14 * unit, "text-anchor": "middle", "font-weight": 700, fill: "#111" }, i);
    });
  }

  const at = (event) => {
    const frame = svg.getBoundingClientRect();
    const [width, height] = size();
    const x = ((event.clientX - frame.left) / frame.width) * width;
    const y = ((event.clientY - frame.top) / frame.height) * height;
    return [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
  };
  const inside = (b, [x, y]) => b[0] <= x && x <= b[2] && b[1] <= y && y <= b[3];
  const area = (b) => (b[2] - b[0]) * (b[3] - b[1]);

  const clicked = (point) => {
    const drawn = boxes();
    const hit = drawn.map((b, i) => i).filter((i) => inside(drawn[i], point)).sort((a, b) => area(drawn[a]) - area(drawn[b]))[0];
    const offered = model.get("offered").filter((o) => inside(o.box, point)).sort((a, b) => area(a.box) - area(b.box))[0];
    const taken = offered && drawn.some((b) => b.every((v, k) => Math.abs(v - offered.box[k]) < 0.5));
    if (offered && !taken && (hit === undefined || area(offered.box) < area(drawn[hit]))) keep([...drawn, offered.box], drawn.length);
    else {
      selected = hit ?? -1;
      draw();
    }
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(event.pointerId);
    start = at(event);
    const held = boxes()[selected];
    moved = held && inside(held, start) ? held : null;
  });
  stage.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [x, y] = at(event);
    if (moved) {
      const [width, height] = size();
      const right = Math.min(Math.max(x - start[0], -moved[0]), width - moved[2]);
      const down = Math.min(Math.max(y - start[1], -moved[1]), height - moved[3]);
      shifted = [moved[0] + right, moved[1] + down, moved[2] + right, moved[3] + down];
      draw();
      return;
    }
    current = [Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1])];
    draw();
  });
  const finish = (event) => {
    if (!start) return;
    const [width] = size();
    const made = current;
    const from = start;
    const to = shifted;
    start = current = moved = shifted = null;
    if (to) keep(boxes().map((b, i) => (i === selected ? to : b)), selected);
    else if (made && made[2] - made[0] > width / 60 && made[3] - made[1] > width / 60) keep([...boxes(), made], boxes().length);
    else if (event.type === "pointerup") clicked(from);
    else draw();
  };
  stage.addEventListener("pointerup", finish);
  stage.addEventListener("pointercancel", finish);

  stage.addEventListener("keydown", (event) => {
    const [width, height] = size();
    const drawn = boxes();
    const chosen = selected >= 0 ? selected : drawn.length - 1;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "b" || event.key === "B") keep([...drawn, [width * 0.35, height * 0.35, width * 0.65, height * 0.65]], drawn.length);
    else if ((event.key === "Delete" || event.key === "Backspace") && chosen >= 0) keep(drawn.filter((_, i) => i !== chosen), drawn.length - 2);
    else if (event.key in moves && chosen >= 0) {
      const [dx, dy] = moves[event.key].map((v) => (v * width) / 50);
      const box = drawn[chosen];
      if (event.shiftKey) {
        box[2] = Math.min(Math.max(box[2] + dx, box[0] + width / 50), width);
        box[3] = Math.min(Math.max(box[3] + dy, box[1] + width / 50), height);
      } else {
        const right = Math.min(Math.max(dx, -box[0]), width - box[2]);
        const down = Math.min(Math.max(dy, -box[1]), height - box[3]);
        drawn[chosen] = [box[0] + right, box[1] + down, box[2] + right, box[3] + down];
      }
      keep(drawn, chosen);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  const shown = () => {
    picture.src = model.get("image");
    picture.alt = model.get("alt");
    selected = -1;
    draw();
  };
  model.on("change:image", shown);
  model.on("change:boxes", draw);
  model.on("change:offered", draw);
  shown();
}

export default { render };
