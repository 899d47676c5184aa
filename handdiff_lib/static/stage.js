/* A stage: hands in columns under one camera, one slider and Play. The HTML is written by handdiff_lib/stage.py. */

const DRAG = 0.011, STEEPEST = 1.45, ZOOM = [0.5, 6], RIBBON = 1.6, CLICK = 5;

class Stage {
  constructor(el, data) {
    Object.assign(this, { el, data, frame: data.active, yaw: 0, pitch: 0, zoom: 1, isPlaying: false, isNear: false });
    this.find = (name) => el.querySelector(`.hs-${name}`);
    this.view = this.find("view");
    this.canvas = this.find("canvas");
    this.pen = this.canvas.getContext("2d");
    this.actors = data.actors.map((actor) => new Actor(actor, data.frames));
    this.pick = new Pick(this);
    this.drawn = 0;
    this.listen();
    this.watch();
  }

  watch() {
    new ResizeObserver(() => this.redraw()).observe(this.view);
    new IntersectionObserver(([entry]) => {
      this.isNear = entry.isIntersecting;
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      if (this.isNear && this.data.autoplay && !this.wasPlayed && !still) this.play(true);
      this.redraw();
    }, { rootMargin: "100px" }).observe(this.view);
    document.addEventListener("handstage-redraw", () => this.redraw());
  }

  listen() {
    const slider = this.find("slider"), button = this.find("play");
    if (slider) slider.addEventListener("input", () => { this.play(false); this.show(+slider.value); });
    if (button) button.addEventListener("click", () => this.play(!this.isPlaying));
    this.el.addEventListener("keydown", (event) => this.key(event));
    for (const dial of this.el.querySelectorAll(".hs-dial")) dial.addEventListener("input", () => this.dials());
    for (const lane of this.el.querySelectorAll(".hs-lane svg")) {
      const seek = (event) => {
        if (event.type === "pointermove" && !event.buttons) return;
        const box = lane.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
        this.play(false);
        this.show(Math.round(share * (this.data.frames - 1)));
      };
      lane.addEventListener("pointerdown", seek);
      lane.addEventListener("pointermove", seek);
    }
    const fingers = new Map(); // pointers that are down, and where
    this.canvas.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      this.dragged = 0;
      this.canvas.setPointerCapture(event.pointerId);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
    }
    this.canvas.addEventListener("pointermove", (event) => {
      const from = fingers.get(event.pointerId);
      if (!from) return;
      const to = [event.clientX, event.clientY], other = [...fingers].find(([id]) => id !== event.pointerId);
      fingers.set(event.pointerId, to);
      this.dragged += Math.hypot(to[0] - from[0], to[1] - from[1]);
      if (!other) return this.turn(DRAG * (to[0] - from[0]), DRAG * (to[1] - from[1]));
      const apart = (a) => Math.hypot(a[0] - other[1][0], a[1] - other[1][1]);
      this.magnify(apart(to) / Math.max(apart(from), 1));
    });
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== this.canvas) return; // else a page could not be scrolled past it
      event.preventDefault();
      this.magnify(Math.exp(-0.0015 * event.deltaY));
    }, { passive: false });
    this.canvas.addEventListener("click", (event) => {
      if (this.dragged < CLICK) this.pick.at(event.offsetX, event.offsetY);
    });
    this.canvas.addEventListener("dblclick", () => this.reset());
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onCanvas = event.target === this.canvas, way = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
    const isAcross = event.key === "ArrowLeft" || event.key === "ArrowRight";
    if (event.key === " " && (onCanvas || event.target === this.find("slider"))) this.play(!this.isPlaying);
    else if (!onCanvas) return;
    else if (way && event.shiftKey) this.turn(isAcross ? 0.15 * way : 0, isAcross ? 0 : 0.15 * way);
    else if (way && isAcross) { this.play(false); this.show(this.frame + way); }
    else if (event.key === "Home" || event.key === "End") this.show(event.key === "Home" ? 0 : this.data.frames - 1);
    else if (event.key === "+" || event.key === "=" || event.key === "-") this.magnify(event.key === "-" ? 0.87 : 1.15);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") this.pick.at(-1, -1);
    else return;
    event.preventDefault();
  }

  turn(yaw, pitch) {
    const { camera, up } = this.data, rise = Math.asin(camera[6] * up[0] + camera[7] * up[1] + camera[8] * up[2]);
    this.yaw += yaw;
    this.pitch = Math.min(Math.max(this.pitch + pitch, -STEEPEST - rise), STEEPEST - rise);
    this.redraw();
  }

  magnify(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, ZOOM[0]), ZOOM[1]);
    this.redraw();
  }

  reset() {
    Object.assign(this, { yaw: 0, pitch: 0, zoom: 1 });
    this.redraw();
  }

  /* What the dials under the hand add to its pose and shape. */
  dials() {
    const turns = new Float32Array(48), betas = new Float32Array(10);
    this.el.querySelectorAll(".hs-dial").forEach((dial, k) => {
      const value = +dial.value, what = this.data.dials[k];
      what.turns.forEach(([place, share]) => { turns[place] += share * value; });
      what.betas.forEach(([place, share]) => { betas[place] += share * value; });
      dial.nextElementSibling.textContent = `${value.toFixed(what.digits)}${what.unit}`;
      dial.setAttribute("aria-valuetext", dial.nextElementSibling.textContent);
    });
    this.change = { turns, betas };
    this.redraw();
  }

  play(on) {
    if (on === this.isPlaying || this.data.frames < 2) return;
    this.isPlaying = on;
    this.wasPlayed = true;
    const button = this.find("play");
    button.textContent = on ? "Pause" : "Play";
    if (on && this.frame === this.data.frames - 1) this.frame = 0;
    this.since = performance.now() - 1000 * this.frame / this.data.fps;
    this.redraw();
  }

  /* Go to a frame and say so everywhere. */
  show(frame) {
    this.frame = Math.min(Math.max(frame, 0), this.data.frames - 1);
    const slider = this.find("slider"), { names, label, start, fps } = this.data;
    const name = names ? names[this.frame] : `${(start + this.frame / fps).toFixed(2)} s`;
    if (slider) {
      slider.value = this.frame;
      slider.setAttribute("aria-valuetext", `${label} ${name}`);
      this.find("now").textContent = name;
    }
    const share = 100 * this.frame / Math.max(this.data.frames - 1, 1);
    for (const cursor of this.el.querySelectorAll(".hs-cursor")) cursor.style.left = `${share}%`;
    this.redraw();
  }

  redraw() {
    if (this.isAsked || !this.isNear) return;
    this.isAsked = true;
    requestAnimationFrame((now) => {
      this.isAsked = false;
      if (this.isPlaying && this.isNear) {
        let frame = Math.max(Math.floor((now - this.since) * this.data.fps / 1000), 0);
        if (frame >= this.data.frames) [frame, this.since] = [0, now];
        if (frame !== this.frame) this.show(frame);
      }
      this.draw();
      if (this.isPlaying) this.redraw();
    });
  }

  draw() {
    const painter = Painter.shared(); // made when a stage is first near: it takes half a second
    if (!painter) this.el.classList.add("is-still");
    if (!painter || painter.isLost) return;
    const sharp = Math.min(window.devicePixelRatio || 1, 2), columns = this.data.columns.length;
    const width = Math.round(this.view.clientWidth * sharp), height = Math.round(this.view.clientHeight * sharp);
    if (!width || !height) return;
    const key = [this.frame, this.isPlaying, this.yaw, this.pitch, this.zoom, width, height, this.version, this.pick.version];
    if (!this.change && this.key_drawn === key.join()) return;
    this.key_drawn = key.join();
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    painter.begin(width, height);
    const camera = this.camera(), { light, heat, middles, span } = this.data, part = width / columns;
    const pixels = this.zoom * Math.min(part / span[0], height / span[1]);
    const scale = [2 * pixels / part, 2 * pixels / height, -1];
    const truth = heat.truth === null ? null : this.actors[heat.truth].at(this.frame).points;
    const order = [...this.actors].sort((a, b) => b.data.opacity - a.data.opacity);
    for (const actor of order) {
      const { column, opacity } = actor.data, { points, normals } = actor.at(this.frame, this.change);
      const against = truth && actor !== this.actors[heat.truth] ? truth : null;
      const colors = actor.colors(this.frame, points, heat, against), middle = middles[column];
      painter.column(Math.round(column * part), Math.round(part));
      painter.mesh({ points, normals, colors, faces: actor.faces, camera, middle, scale, opacity, light });
      if (this.data.trails) this.trail(painter, actor, camera, middle, scale, [part, height], sharp);
    }
    painter.copy(this.pen);
    this.pick.mark(camera, truth, sharp);
    this.drawn++;
    this.el.classList.add("is-live");
  }

  camera() {
    const { camera: C, up } = this.data, turn = new Float32Array(9), c = Math.cos(this.pitch), s = Math.sin(this.pitch);
    rotation(up[0] * this.yaw, up[1] * this.yaw, up[2] * this.yaw, turn, 0);
    const out = new Float32Array(9);
    for (let r = 0; r < 3; r++) for (let k = 0; k < 3; k++) for (let m = 0; m < 3; m++) {
      const row = [C[m], c * C[3 + m] - s * C[6 + m], s * C[3 + m] + c * C[6 + m]][r];
      out[3 * r + k] += row * turn[3 * m + k];
    }
    return out;
  }

  /* Where the finger tips have been, as ribbons that fade. */
  trail(painter, actor, M, middle, scale, [width, height], sharp) {
    const places = [], colors = [], first = Math.max(0, this.frame - this.data.trails);
    const ways = [];
    for (let f = first; f <= this.frame; f++) {
      const tips = actor.tipsAt(f);
      ways.push([0, 1, 2, 3, 4].map((t) => [0, 1, 2].map((r) => scale[r] * [0, 1, 2].reduce(
        (sum, k) => sum + M[3 * r + k] * (tips[3 * t + k] - middle[k]), 0))));
    }
    for (let t = 0; t < 5; t++) for (let f = 1; f < ways.length; f++) {
      const [a, b] = [ways[f - 1][t], ways[f][t]];
      const dx = (b[0] - a[0]) * width, dy = (b[1] - a[1]) * height, size = Math.hypot(dx, dy) || 1;
      const ox = -dy / size * RIBBON * 2 * sharp / width, oy = dx / size * RIBBON * 2 * sharp / height;
      const corner = (p, side) => [p[0] + side * ox, p[1] + side * oy, p[2] - 0.002];
      const quad = [[a, 1], [a, -1], [b, 1], [b, 1], [a, -1], [b, -1]];
      for (const [p, side] of quad) {
        places.push(...corner(p, side));
        colors.push(...actor.rgb, 255 * (0.15 + 0.75 * (f - (p === a ? 1 : 0)) / ways.length));
      }
    }
    if (places.length) painter.ribbon(new Float32Array(places), new Uint8Array(colors));
  }
}

/* Bring to life every stage of the page that is not yet. */
function start(root) {
  for (const el of (root || document).querySelectorAll(".handstage:not(.is-started)")) {
    const text = el.querySelector("script[type='application/json']");
    if (!text) continue;
    const data = JSON.parse(text.textContent);
    if (data.actors.some((actor) => actor.hand && !HANDS[actor.hand])) continue; // its hand comes in a later script
    el.classList.add("is-started");
    el.stage = new Stage(el, data);
  }
}

window.handstage = {
  start,
  addHand(name, packed) { if (!HANDS[name]) HANDS[name] = new Hand(packed); },
  /* anywidget's entry: the stage in `html`, whose one actor takes the vertices that the kernel sends. */
  render({ model, el }) {
    el.innerHTML = model.get("html");
    start(el);
    const stage = el.querySelector(".handstage").stage;
    if (!stage) return;
    const take = () => {
      const sent = model.get("vertices");
      if (!sent.byteLength) return;
      const whole = sent.buffer.slice(sent.byteOffset, sent.byteOffset + sent.byteLength);
      Object.assign(stage.actors[0], { points: new Float32Array(whole), seen: { frame: -1 } });
      stage.version = (stage.version || 0) + 1;
      stage.redraw();
    };
    model.on("change:vertices", take);
    take();
  },
};
