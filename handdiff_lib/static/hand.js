/* The hand in the browser: shape, pose and skin, as handdiff_lib/hand.py does them. Metres; rotation vectors, radians. */

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function arrayOf(text, Kind) {
  return new Kind(bytesOf(text).buffer);
}

class Hand {
  /* `packed` is what packed.hand_arrays writes: integers, each with the size of its unit. */
  constructor(packed) {
    this.template = Float32Array.from(arrayOf(packed.template, Int16Array), (x) => x * packed.unit);
    this.shapedirs = arrayOf(packed.shapedirs, Int8Array); // (s, v, 3)
    this.shapeUnits = packed.shape_units;
    this.joints = arrayOf(packed.joints, Float32Array);
    this.jointdirs = arrayOf(packed.jointdirs, Float32Array); // (s, 16, 3)
    this.near = arrayOf(packed.near, Uint8Array); // four joints a vertex
    this.weights = Float32Array.from(arrayOf(packed.weights, Uint8Array), (x) => x / 255);
    this.bendVertex = arrayOf(packed.bend_vertex, Uint16Array); // pairs of a vertex and a joint that corrects it
    this.bendJoint = arrayOf(packed.bend_joint, Uint8Array);
    this.bend = arrayOf(packed.bend, Int8Array); // (pair, 3, 9)
    this.bendUnit = packed.bend_unit;
    this.faces = arrayOf(packed.faces, Uint16Array);
    this.parents = packed.parents;
    this.tips = packed.tips;
    this.names = packed.names; // of the joints, then of the finger tips
    this.count = this.template.length / 3;
  }

  /* The name of the joint or finger tip that is nearest to a vertex while the hand rests. */
  nameOf(v) {
    const at = (points, k) => points.subarray(3 * k, 3 * k + 3), here = at(this.template, v);
    const places = [...this.parents.map((_, j) => at(this.joints, j)), ...this.tips.map((tip) => at(this.template, tip))];
    const apart = places.map((p) => Math.hypot(p[0] - here[0], p[1] - here[1], p[2] - here[2]));
    return this.names[apart.indexOf(Math.min(...apart))];
  }

  /* Rest vertices and rest joints of one person's hand. */
  shape(betas) {
    const rest = Float32Array.from(this.template), joints = Float32Array.from(this.joints);
    betas.forEach((beta, s) => {
      if (beta === 0) return;
      const step = beta * this.shapeUnits[s];
      for (let i = 0; i < rest.length; i++) rest[i] += step * this.shapedirs[s * rest.length + i];
      for (let i = 0; i < joints.length; i++) joints[i] += beta * this.jointdirs[s * joints.length + i];
    });
    return { rest, joints };
  }

  /* Rotation of every joint relative to its parent (R) and to the world (G), and where it is (p); wrist at `place`. */
  pose(shaped, turns, place) {
    const R = new Float32Array(9 * 16), G = new Float32Array(9 * 16), p = new Float32Array(3 * 16), J = shaped.joints;
    for (let j = 0; j < 16; j++) {
      rotation(turns[3 * j], turns[3 * j + 1], turns[3 * j + 2], R, 9 * j);
      const k = this.parents[j];
      for (let r = 0; r < 3; r++) {
        p[3 * j + r] = k < 0 ? place[r] : p[3 * k + r];
        for (let c = 0; c < 3; c++) {
          if (k < 0) { G[9 * j + 3 * r + c] = R[9 * j + 3 * r + c]; continue; }
          p[3 * j + r] += G[9 * k + 3 * r + c] * (J[3 * j + c] - J[3 * k + c]);
          for (let m = 0; m < 3; m++) G[9 * j + 3 * r + c] += G[9 * k + 3 * r + m] * R[9 * j + 3 * m + c];
        }
      }
    }
    return { R, G, p };
  }

  /* All vertices, or the five finger tips alone. */
  skin(shaped, posed, only) {
    const rest = Float32Array.from(shaped.rest), { R, G, p } = posed, J = shaped.joints;
    const wanted = only && new Set(only);
    for (let i = 0; i < this.bendVertex.length; i++) {
      const v = this.bendVertex[i], j = this.bendJoint[i];
      if (wanted && !wanted.has(v)) continue;
      for (let r = 0; r < 3; r++) {
        let sum = 0;
        for (let c = 0; c < 9; c++) sum += this.bend[27 * i + 9 * r + c] * (R[9 * j + c] - (c % 4 === 0 ? 1 : 0));
        rest[3 * v + r] += this.bendUnit * sum;
      }
    }
    const rows = only || rest.length / 3, count = only ? only.length : rows, out = new Float32Array(3 * count);
    for (let i = 0; i < count; i++) {
      const v = only ? only[i] : i;
      for (let m = 0; m < 4; m++) {
        const w = this.weights[4 * v + m], j = this.near[4 * v + m];
        if (w === 0) continue;
        const x = rest[3 * v] - J[3 * j], y = rest[3 * v + 1] - J[3 * j + 1], z = rest[3 * v + 2] - J[3 * j + 2];
        for (let r = 0; r < 3; r++) {
          const g = 9 * j + 3 * r;
          out[3 * i + r] += w * (G[g] * x + G[g + 1] * y + G[g + 2] * z + p[3 * j + r]);
        }
      }
    }
    return out;
  }
}

/* Matrix of a rotation vector, row by row, into `out` from `at` on. */
function rotation(x, y, z, out, at) {
  const angle2 = x * x + y * y + z * z, angle = Math.sqrt(angle2);
  const s = angle2 < 1e-8 ? 1 - angle2 / 6 : Math.sin(angle) / angle;
  const c = angle2 < 1e-8 ? 0.5 - angle2 / 24 : (1 - Math.cos(angle)) / angle2;
  out.set([1 - c * (y * y + z * z), c * x * y - s * z, c * x * z + s * y,
    c * x * y + s * z, 1 - c * (x * x + z * z), c * y * z - s * x,
    c * x * z - s * y, c * y * z + s * x, 1 - c * (x * x + y * y)], at);
}

/* Unit normals of the vertices, each face weighing as much as it is large; `sign` -1 for a mirrored surface. */
function normalsOf(points, faces, sign) {
  const out = new Float32Array(points.length);
  for (let i = 0; i < faces.length; i += 3) {
    const a = 3 * faces[i], b = 3 * faces[i + 1], c = 3 * faces[i + 2];
    const ux = points[b] - points[a], uy = points[b + 1] - points[a + 1], uz = points[b + 2] - points[a + 2];
    const vx = points[c] - points[a], vy = points[c + 1] - points[a + 1], vz = points[c + 2] - points[a + 2];
    const nx = sign * (uy * vz - uz * vy), ny = sign * (uz * vx - ux * vz), nz = sign * (ux * vy - uy * vx);
    for (const k of [a, b, c]) { out[k] += nx; out[k + 1] += ny; out[k + 2] += nz; }
  }
  for (let i = 0; i < out.length; i += 3) {
    const size = Math.hypot(out[i], out[i + 1], out[i + 2]) || 1;
    out[i] /= size; out[i + 1] /= size; out[i + 2] /= size;
  }
  return out;
}
