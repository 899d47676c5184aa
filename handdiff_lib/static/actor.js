/* One hand on a stage: its points, finger tips and colours at any frame. */

const HANDS = {};

class Actor {
  /* One hand: its points at any frame, from rotations (with the hand's arrays) or as they were written. */
  constructor(data, frames) {
    Object.assign(this, { data, frames });
    this.rgb = [1, 3, 5].map((k) => parseInt(data.color.slice(k, k + 2), 16));
    this.missing = new Set(data.missing);
    this.sign = data.mirrored ? -1 : 1;
    if (data.points !== undefined) {
      this.points = Float32Array.from(arrayOf(data.points, Int16Array), (x) => x * data.unit);
      this.faces = arrayOf(data.faces, Uint16Array);
      this.tips = data.tips;
    } else {
      this.hand = HANDS[data.hand];
      this.faces = this.hand.faces;
      this.tips = this.hand.tips;
      this.turns = Float32Array.from(arrayOf(data.turns, Int16Array), (x) => x * Math.PI / 32767);
      this.betas = arrayOf(data.betas, Float32Array);
      this.places = data.places && arrayOf(data.places, Float32Array);
      this.ways = Array.from({ length: frames });
    }
    if (data.heat) this.heat = arrayOf(data.heat, Uint8Array);
    this.seen = { frame: -1 };
  }

  /* Shape and pose at a frame; `change` adds rotation vectors and shape numbers to what was written. */
  posed(frame, change) {
    const many = this.betas.length > 10, turns = this.turns.slice(48 * frame, 48 * frame + 48);
    const betas = Array.from(this.betas.slice(many ? 10 * frame : 0, many ? 10 * frame + 10 : 10));
    if (change) {
      change.turns.forEach((x, i) => { turns[i] += x; });
      change.betas.forEach((x, i) => { betas[i] += x; });
    }
    const key = betas.join();
    if (this.shapeKey !== key) Object.assign(this, { shapeKey: key, shaped: this.hand.shape(betas) });
    const place = this.places ? this.places.slice(3 * frame, 3 * frame + 3) : [0, 0, 0];
    return this.hand.pose(this.shaped, turns, place);
  }

  mirrored(points) {
    if (this.sign < 0) for (let i = 2; i < points.length; i += 3) points[i] = -points[i];
    return points;
  }

  /* Vertices and normals at a frame. */
  at(frame, change) {
    if (this.seen.frame === frame && !change) return this.seen;
    const size = this.points && this.points.length / this.frames;
    const posed = this.points ? null : this.posed(frame, change);
    const points = this.points ? this.points.slice(frame * size, (frame + 1) * size)
      : this.mirrored(this.hand.skin(this.shaped, posed));
    this.seen = { frame: change ? -1 : frame, points, normals: normalsOf(points, this.faces, this.points ? 1 : this.sign) };
    return this.seen;
  }

  /* Where the five finger tips are at a frame. */
  tipsAt(frame) {
    if (this.points) {
      const size = this.points.length / this.frames;
      return Float32Array.from(this.tips.flatMap((v) => [0, 1, 2].map((r) => this.points[frame * size + 3 * v + r])));
    }
    if (!this.ways[frame]) {
      const posed = this.posed(frame);
      this.ways[frame] = this.mirrored(this.hand.skin(this.shaped, posed, this.tips));
    }
    return this.ways[frame];
  }

  /* A colour a vertex: its own, grey where nothing was seen, or on the scale of `heat`. */
  colors(frame, points, heat, truth) {
    const count = points.length / 3, out = new Uint8Array(points.length);
    if (this.missing.has(frame)) return paintAll(out, heat.missing);
    if (truth) {
      for (let v = 0; v < count; v++) {
        const i = 3 * v, apart = Math.hypot(points[i] - truth[i], points[i + 1] - truth[i + 1], points[i + 2] - truth[i + 2]);
        out.set(onScale((1000 * apart - heat.low) / (heat.high - heat.low), heat.stops), i);
      }
      return out;
    }
    if (!this.heat) return paintAll(out, this.rgb);
    const width = this.heat.length / this.frames, row = this.heat.subarray(frame * width, (frame + 1) * width);
    for (let v = 0; v < count; v++) {
      let u = row[v];
      if (width === 16) {
        u = 0;
        for (let m = 0; m < 4; m++) u += this.hand.weights[4 * v + m] * row[this.hand.near[4 * v + m]];
      }
      out.set(onScale(u / 255, heat.stops), 3 * v);
    }
    return out;
  }
}

function paintAll(out, rgb) {
  for (let i = 0; i < out.length; i++) out[i] = rgb[i % 3];
  return out;
}

/* The colour at `share` of the way along the stops, which lie evenly. */
function onScale(share, stops) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2);
  return stops[k].map((low, c) => low + (at - k) * (stops[k + 1][c] - low));
}
