/* What a click on a hand names: the vertex that is nearest, and the joint or finger tip that it lies at. */

const REACH = 10; // pixels beside a hand that still count as on it

class Pick {
  constructor(stage) {
    this.stage = stage;
    this.out = stage.find("pick");
  }

  /* Where points of a column are on the canvas: pixels across and down, and towards the eye. */
  seen(camera, column, points) {
    const { data, view, zoom } = this.stage, middle = data.middles[column], out = [];
    const part = view.clientWidth / data.columns.length, high = view.clientHeight;
    const pixels = zoom * Math.min(part / data.span[0], high / data.span[1]);
    for (let i = 0; i < points.length; i += 3) {
      const [x, y, z] = [0, 3, 6].map((r) => [0, 1, 2].reduce((sum, k) => sum + camera[r + k] * (points[i + k] - middle[k]), 0));
      out.push([part * (column + 0.5) + pixels * x, high / 2 - pixels * y, z]);
    }
    return out;
  }

  /* Take the vertex nearest to a place of the canvas: on the foremost face there, or within reach; else none. */
  at(x, y) {
    const { stage } = this, { data, frame, change } = stage, camera = stage.camera();
    const column = Math.floor(x * data.columns.length / stage.view.clientWidth);
    let foremost = -Infinity, reach = REACH;
    this.actor = null;
    for (const actor of stage.actors.filter((one) => one.data.column === column)) {
      const { faces } = actor, seen = this.seen(camera, column, actor.at(frame, change).points);
      for (let v = 0; v < seen.length && foremost === -Infinity; v++) {
        const apart = Math.hypot(seen[v][0] - x, seen[v][1] - y);
        if (apart < reach) [reach, this.actor, this.vertex] = [apart, actor, v];
      }
      for (let i = 0; i < faces.length; i += 3) {
        const corners = [faces[i], faces[i + 1], faces[i + 2]], shares = inside(corners.map((v) => seen[v]), x, y);
        const depth = corners.reduce((sum, v, k) => sum + shares[k] * seen[v][2], 0);
        if (!(Math.min(...shares) >= 0 && depth > foremost)) continue;
        foremost = depth;
        Object.assign(this, { actor, vertex: corners[shares.indexOf(Math.max(...shares))] });
      }
    }
    this.version = (this.version || 0) + 1;
    stage.redraw();
  }

  /* Ring the vertex and say what it is; how far off it is only while nothing moves, for those who listen. */
  mark(camera, truth, sharp) {
    const { stage, actor, vertex, out } = this;
    if (!actor) { out.textContent = ""; return; }
    const { column } = actor.data, { points } = actor.at(stage.frame, stage.change);
    const point = points.subarray(3 * vertex, 3 * vertex + 3), [[x, y]] = this.seen(camera, column, point);
    for (const [radius, color] of [[6, "#000"], [4.5, "#fff"]]) {
      stage.pen.beginPath();
      stage.pen.arc(x * sharp, y * sharp, radius * sharp, 0, 2 * Math.PI);
      Object.assign(stage.pen, { strokeStyle: color, lineWidth: 1.5 * sharp }).stroke();
    }
    const words = [stage.data.columns[column], actor.hand && actor.hand.nameOf(vertex), `vertex ${vertex}`];
    if (truth && points !== truth && !stage.isPlaying) {
      const apart = Math.hypot(...point.map((value, k) => value - truth[3 * vertex + k]));
      words.push(`${(1000 * apart).toFixed(1)} mm off`);
    }
    const told = words.filter(Boolean).join(", ");
    if (out.textContent !== told) out.textContent = told;
  }
}

/* Shares of a triangle's corners in a place of the plane; one is negative outside it. */
function inside([a, b, c], x, y) {
  const area = (p, q, u, v) => (p[0] - u) * (q[1] - v) - (p[1] - v) * (q[0] - u), whole = area(b, c, a[0], a[1]);
  return [area(b, c, x, y) / whole, area(c, a, x, y) / whole, area(a, b, x, y) / whole];
}
