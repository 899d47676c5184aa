/* Paints shaded meshes and ribbons. One WebGL2 context serves every stage of a page: pictures are copied from it. */

const MESH_VERTEX = `#version 300 es
in vec3 place, normal, color;
uniform mat3 camera; uniform vec3 middle, scale;
out vec3 facing, paint;
void main() {
  facing = camera * normal;
  paint = color;
  gl_Position = vec4(camera * (place - middle) * scale, 1.0);
}`;
const MESH_FRAGMENT = `#version 300 es
precision highp float;
in vec3 facing, paint;
uniform float opacity; uniform vec3 lamp; uniform vec3 light;
out vec4 pixel;
void main() {
  vec3 n = normalize(facing);
  if (n.z < 0.0) n = -n;
  float shade = light.x + light.y * max(dot(n, lamp), 0.0) + light.z * n.z;
  pixel = vec4(min(paint * shade, 1.0) * opacity, opacity);
}`;
const RIBBON_VERTEX = `#version 300 es
in vec3 place; in vec4 color;
out vec4 paint;
void main() { paint = color; gl_Position = vec4(place, 1.0); }`;
const RIBBON_FRAGMENT = `#version 300 es
precision highp float;
in vec4 paint;
out vec4 pixel;
void main() { pixel = vec4(paint.rgb * paint.a, paint.a); }`;

class Painter {
  /* The painter of this page, or null where there is no WebGL2. */
  static shared() {
    if (Painter.one === undefined) Painter.one = Painter.make();
    return Painter.one;
  }

  static make() {
    const canvas = document.createElement("canvas");
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true });
    return gl ? new Painter(canvas, gl) : null;
  }

  constructor(canvas, gl) {
    Object.assign(this, { canvas, gl, isLost: false });
    canvas.width = canvas.height = 1;
    canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); this.isLost = true; });
    canvas.addEventListener("webglcontextrestored", () => {
      this.isLost = false;
      this.build();
      document.dispatchEvent(new Event("handstage-redraw"));
    });
    this.build();
  }

  build() {
    const gl = this.gl;
    this.meshes = this.program(MESH_VERTEX, MESH_FRAGMENT, ["place", "normal", "color"]);
    this.ribbons = this.program(RIBBON_VERTEX, RIBBON_FRAGMENT, ["place", "color"]);
    this.buffers = Object.fromEntries(["place", "normal", "color", "faces"].map((name) => [name, gl.createBuffer()]));
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.SCISSOR_TEST);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  program(vertex, fragment, inputs) {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    inputs.forEach((name, place) => gl.bindAttribLocation(program, place, name));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw Error(gl.getProgramInfoLog(program));
    const uniforms = {};
    for (const name of ["camera", "middle", "scale", "opacity", "lamp", "light"]) {
      uniforms[name] = gl.getUniformLocation(program, name);
    }
    return { program, uniforms };
  }

  /* An empty picture of that many pixels. */
  begin(width, height) {
    const gl = this.gl;
    this.size = [width, height];
    if (this.canvas.width < width) this.canvas.width = width;
    if (this.canvas.height < height) this.canvas.height = height;
    gl.viewport(0, 0, width, height);
    gl.scissor(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.depthMask(true);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  }

  /* Only this stretch of the picture, from the left, in pixels, is painted until told otherwise. */
  column(left, width) {
    this.gl.viewport(left, 0, width, this.size[1]);
    this.gl.scissor(left, 0, width, this.size[1]);
  }

  fill(place, data, size, kind, normalized) {
    const gl = this.gl, at = { place: 0, normal: 1, color: size === 4 ? 1 : 2 }[place];
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[place]);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STREAM_DRAW);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, kind, normalized, 0, 0);
  }

  mesh({ points, normals, colors, faces, camera, middle, scale, opacity, light }) {
    const gl = this.gl, { program, uniforms } = this.meshes;
    gl.useProgram(program);
    this.fill("place", points, 3, gl.FLOAT, false);
    this.fill("normal", normals, 3, gl.FLOAT, false);
    this.fill("color", colors, 3, gl.UNSIGNED_BYTE, true);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.buffers.faces);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STREAM_DRAW);
    gl.uniformMatrix3fv(uniforms.camera, true, camera);
    gl.uniform3fv(uniforms.middle, middle);
    gl.uniform3fv(uniforms.scale, scale);
    gl.uniform3fv(uniforms.lamp, light.lamp);
    gl.uniform3fv(uniforms.light, light.parts);
    gl.uniform1f(uniforms.opacity, opacity);
    this.see(opacity < 1);
    gl.drawElements(gl.TRIANGLES, faces.length, gl.UNSIGNED_SHORT, 0);
  }

  /* Triangles already in clip space; four bytes of colour a corner. */
  ribbon(places, colors) {
    const gl = this.gl;
    gl.useProgram(this.ribbons.program);
    this.fill("place", places, 3, gl.FLOAT, false);
    this.fill("color", colors, 4, gl.UNSIGNED_BYTE, true);
    this.see(true);
    gl.drawArrays(gl.TRIANGLES, 0, places.length / 3);
  }

  see(through) {
    const gl = this.gl;
    gl.depthMask(!through);
    if (through) gl.enable(gl.BLEND); else gl.disable(gl.BLEND);
  }

  /* Put the finished picture on a plain canvas. */
  copy(pen) {
    const [width, height] = this.size;
    pen.clearRect(0, 0, width, height);
    pen.drawImage(this.canvas, 0, this.canvas.height - height, width, height, 0, 0, width, height);
  }
}
