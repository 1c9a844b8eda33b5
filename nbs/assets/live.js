/* Runs trained models in a page: the programs that vae_course.packing writes, and the parts of a page that move. One file, no library, no request but for the programs that a page names. */
(() => {
  "use strict";

  // ------------------------------------------------------------------ numbers

  const bytesOf = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));

  const halves = (() => {                       // every float16, once
    let table;
    return () => {
      if (table) return table;
      table = new Float32Array(65536);
      for (let h = 0; h < 65536; h++) {
        const sign = h & 0x8000 ? -1 : 1, exponent = (h >> 10) & 31, fraction = h & 1023;
        table[h] = sign * (exponent === 0 ? fraction * 2 ** -24
          : exponent === 31 ? (fraction ? NaN : Infinity) : (1 + fraction / 1024) * 2 ** (exponent - 15));
      }
      return table;
    };
  })();

  const count = shape => shape.reduce((a, b) => a * b, 1);

  /* The numbers of a tensor, as packing stored them. */
  const numbersOf = (bytes, ref) => {
    const n = count(ref.shape), out = new Float32Array(n), at = bytes.byteOffset + ref.at;
    if (ref.kind === "float32") { out.set(new Float32Array(bytes.buffer, at, n)); return out; }
    if (ref.kind === "float16") {
      const half = new Uint16Array(bytes.buffer, at, n), table = halves();
      for (let i = 0; i < n; i++) out[i] = table[half[i]];
      return out;
    }
    const whole = new Int8Array(bytes.buffer, at, n), scale = numbersOf(bytes, ref.scale);
    const inner = count(ref.shape.slice(ref.channel + 1)), outputs = ref.shape[ref.channel];
    for (let i = 0; i < n; i++) out[i] = whole[i] * scale[Math.floor(i / inner) % outputs];
    return out;
  };

  /* Noise from a seed: the same seed gives the same draws in every browser. */
  const randomOf = seed => {
    let a = (seed >>> 0) || 1, spare = null;
    const uniform = () => {
      a = (a + 0x6D2B79F5) | 0;
      let t = Math.imul(a ^ (a >>> 15), 1 | a);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    const normal = () => {
      if (spare !== null) { const kept = spare; spare = null; return kept; }
      const r = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
      spare = r * Math.sin(angle);
      return r * Math.cos(angle);
    };
    return {uniform, normal, normals: n => Float64Array.from({length: n}, normal)};
  };

  // ------------------------------------------------------------------ layers

  const linear = (w, b, x, nOut) => {
    const n = x.length, out = new Float64Array(nOut), whole = n - n % 4;
    for (let o = 0, k = 0; o < nOut; o++) {
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0, i = 0;
      for (; i < whole; i += 4, k += 4) {
        s0 += w[k] * x[i]; s1 += w[k + 1] * x[i + 1]; s2 += w[k + 2] * x[i + 2]; s3 += w[k + 3] * x[i + 3];
      }
      for (; i < n; i++, k++) s0 += w[k] * x[i];
      out[o] = s0 + s1 + s2 + s3 + (b ? b[o] : 0);
    }
    return out;
  };

  const filled = (b, shape) => {
    const out = new Float64Array(count(shape)), size = shape[1] * shape[2];
    if (b) for (let c = 0; c < shape[0]; c++) out.fill(b[c], c * size, (c + 1) * size);
    return out;
  };

  /* For each weight, one pass over the rows that it meets: no test inside. */
  const conv = (op, x, from) => {
    const [C, H, W] = from, [O, OH, OW] = op.shape, [sy, sx] = op.stride, [py, px] = op.padding;
    const [, , KH, KW] = op.size, w = op.w, out = filled(op.b, op.shape);
    for (let o = 0, k = 0; o < O; o++) for (let c = 0; c < C; c++) for (let ky = 0; ky < KH; ky++) for (let kx = 0; kx < KW; kx++, k++) {
      const v = w[k];
      if (v === 0) continue;
      const first = Math.max(0, Math.ceil((px - kx) / sx)), last = Math.min(OW - 1, Math.floor((W - 1 + px - kx) / sx));
      for (let oy = 0; oy < OH; oy++) {
        const iy = oy * sy - py + ky;
        if (iy < 0 || iy >= H) continue;
        let i = (c * H + iy) * W + first * sx - px + kx, j = (o * OH + oy) * OW + first;
        for (let ox = first; ox <= last; ox++, i += sx, j++) out[j] += v * x[i];
      }
    }
    return out;
  };

  const up = (op, x, from) => {                 // a transposed convolution
    const [C, H, W] = from, [O, OH, OW] = op.shape, [sy, sx] = op.stride, [py, px] = op.padding;
    const [, , KH, KW] = op.size, w = op.w, out = filled(op.b, op.shape);
    for (let c = 0, k = 0; c < C; c++) for (let o = 0; o < O; o++) for (let ky = 0; ky < KH; ky++) for (let kx = 0; kx < KW; kx++, k++) {
      const v = w[k];
      if (v === 0) continue;
      const first = Math.max(0, Math.ceil((px - kx) / sx)), last = Math.min(W - 1, Math.floor((OW - 1 + px - kx) / sx));
      for (let iy = 0; iy < H; iy++) {
        const oy = iy * sy - py + ky;
        if (oy < 0 || oy >= OH) continue;
        let i = (c * H + iy) * W + first, j = (o * OH + oy) * OW + first * sx - px + kx;
        for (let ix = first; ix <= last; ix++, i++, j += sx) out[j] += v * x[i];
      }
    }
    return out;
  };

  const crop = (op, x, from) => {
    const [C, H, W] = from, [, h, w] = op.shape, out = new Float64Array(C * h * w);
    for (let c = 0, j = 0; c < C; c++) for (let y = 0; y < h; y++, j += w) {
      const at = (c * H + y) * W;
      out.set(x.subarray(at, at + w), j);
    }
    return out;
  };

  const erf = v => {                            // Abramowitz and Stegun 7.1.26 is too rough: a series and a continued fraction
    const a = Math.abs(v);
    let r;
    if (a < 3) {
      let term = a, sum = a;
      for (let n = 1; n < 60; n++) { term *= -a * a / n; sum += term / (2 * n + 1); }
      r = 2 / Math.sqrt(Math.PI) * sum;
    } else {
      let f = 0;
      for (let n = 40; n > 0; n--) f = n / 2 / (a + f);
      r = 1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + f);
    }
    return v < 0 ? -r : r;
  };
  const sigmoid = v => 1 / (1 + Math.exp(-v));
  const softplus = v => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));
  const each = f => (op, x) => {
    const out = new Float64Array(x.length);
    for (let i = 0; i < x.length; i++) out[i] = f(x[i], op);
    return out;
  };
  const kinds = {
    linear: (op, x) => linear(op.w, op.b, x, op.shape[0]), conv, up, crop, reshape: (op, x) => x,
    silu: each(v => v / (1 + Math.exp(-v))), relu: each(v => v > 0 ? v : 0), tanh: each(Math.tanh), sigmoid: each(sigmoid),
    elu: each((v, op) => v > 0 ? v : op.alpha * Math.expm1(v)), gelu: each(v => v * (1 + erf(v / Math.SQRT2)) / 2),
    softplus: each(v => v > 20 ? v : softplus(v)), leaky: each((v, op) => v > 0 ? v : op.slope * v), add: each((v, op) => v + op.value),
    film: (op, x, from, e, run) => {
      const a = run(op.scale, e), b = run(op.shift, e), out = new Float64Array(x.length);
      for (let i = 0; i < x.length; i++) out[i] = x[i] * (1 + a[i]) + b[i];
      return out;
    },
    concat: (op, x, from, e) => { const out = new Float64Array(x.length + e.length); out.set(x); out.set(e, x.length); return out; }
  };

  // ------------------------------------------------------------------ a program

  const LOG2PI = Math.log(2 * Math.PI);
  const bound = v => 10 * Math.tanh(v / 10);    // of a log-variance, as lesson 02 does it

  class Program {
    constructor(spec) {
      if (spec.format !== 1) throw new Error(`a program of format ${spec.format}: this script reads format 1`);
      this.spec = spec;
      this.shape = spec.data_shape;
      this.width = spec.latent_dim || 0;
      this.bytes = bytesOf(spec.weights);
      for (const part of ["encoder", "decoder", "classifier"]) this[part] = spec[part] && this.ready(spec[part]);
      if (spec.codebook) this.codebook = numbersOf(this.bytes, spec.codebook);
      if (spec.likelihood.scale) this.scale = numbersOf(this.bytes, spec.likelihood.scale);
      if (spec.unseen) this.unseen = numbersOf(this.bytes, spec.unseen);
      if (spec.log_share) this.logShare = numbersOf(this.bytes, spec.log_share);
      if (spec.posterior && spec.posterior.nets) this.couplings = spec.posterior.nets.map(net => this.ready(net));
      this.priorParts = spec.prior && this.readyPrior(spec.prior);
      this.top = spec.layers ? spec.layers.top : 0;   // latents of an upper layer: the first numbers of z
      for (const part of ["seen", "up"]) this[part] = spec.layers && spec.layers[part] && this.ready(spec.layers[part]);
    }

    numbers(ref) { return ref ? numbersOf(this.bytes, ref) : null; }

    ready(ops) {
      return ops.map(op => {
        if (!kinds[op.op]) throw new Error(`an operation ${op.op} that this script does not know`);
        const made = {...op};
        if (op.weight) { made.w = this.numbers(op.weight); made.size = op.weight.shape; made.b = this.numbers(op.bias); }
        for (const inner of ["scale", "shift"]) if (op[inner]) made[inner] = this.ready(op[inner]);
        return made;
      });
    }

    readyPrior(prior) {
      if (prior.name === "learned" || prior.name === "layers") return {...prior, layers: this.ready(prior.layers)};
      if (prior.name === "flow") return {...prior, nets: prior.nets.map(net => this.ready(net))};
      if (prior.name === "vamp") {
        const all = this.numbers(prior.each), [K, n] = prior.each.shape;
        return {...prior, each: Array.from({length: K}, (_, k) => this.posterior(Float64Array.from(all.subarray(k * n, k * n + n))))};
      }
      if (prior.name === "mixture") return {...prior, mu: this.numbers(prior.mu), logvar: this.numbers(prior.logvar), logits: this.numbers(prior.logits)};
      if (prior.name !== "transformer") return prior;
      const norm = n => ({scale: this.numbers(n.scale), shift: this.numbers(n.shift), eps: n.eps});
      const matrix = m => ({w: this.numbers(m.weight), b: this.numbers(m.bias), size: m.weight.shape});
      return {...prior, embed: this.numbers(prior.embed), place: this.numbers(prior.place), width: prior.embed.shape[1], norm: norm(prior.norm), head: matrix(prior.head),
        blocks: prior.blocks.map(b => ({heads: b.heads, norm1: norm(b.norm1), norm2: norm(b.norm2), qkv: matrix(b.qkv), out: matrix(b.out), first: matrix(b.first), second: matrix(b.second)}))};
    }

    run(ops, x, from, e) {
      let h = x, shape = from || [x.length];
      const inner = (more, y) => this.run(more, y);
      for (const op of ops) { h = kinds[op.op](op, h, shape, e, inner); shape = op.shape; }
      return h;
    }

    /* What a condition is for the networks; null for a model without. */
    embed(c, kind = this.spec.condition) {
      if (!kind) return null;
      if (c === null || c === undefined) throw new Error("this model needs a condition");
      if (kind.kind === "labels") { const e = new Float64Array(kind.classes); e[c] = 1; return e; }
      if (kind.kind === "number") return Float64Array.of(2 * (c - kind.low) / (kind.high - kind.low) - 1);
      if (kind.kind === "part") return Float64Array.from(kind.places, i => c[i]);
      return Float64Array.from(kind.parts.flatMap((part, i) => [...this.embed(c[i], part)]));
    }

    gaussian(out) {
      const D = out.length / 2, mu = out.slice(0, D), logvar = out.slice(D).map(bound);
      return {mu, logvar, sigma: logvar.map(v => Math.exp(v / 2))};
    }

    /* q(z|x, c) of an image, its numbers in [0, 1]: {mu, logvar, sigma}, or {codes}. With a covariance it has the Cholesky factor `lower`, too, and sigma is that of each latent by itself; of a flow, or of two layers, only mu, the code, is a number for each latent. */
    encode(x, c) {
      const out = this.run(this.encoder, x, this.shape, this.embed(c));
      if (this.codebook) return {codes: this.nearest(out)};
      return this.top ? this.layered(out) : this.posterior(out);
    }

    posterior(out) {
      const kind = this.spec.posterior, D = this.width;
      if (!kind) return this.gaussian(out);
      const base = this.gaussian(out.slice(0, 2 * D));
      if (kind.name === "flow") {
        const context = out.slice(2 * D);
        return {base, context, mu: this.bend(this.couplings, base.mu, context).z};
      }
      const lower = new Float64Array(D * D), {mu} = base;   // rows of the factor, one after another
      for (let i = 0, k = 2 * D; i < D; i++) {
        for (let j = 0; j < i; j++) lower[i * D + j] = out[k++];
        lower[i * D + i] = base.sigma[i];
      }
      const sigma = mu.map((_, i) => Math.hypot(...lower.subarray(i * D, i * D + i + 1)));
      return {mu, lower, sigma, logvar: sigma.map(v => 2 * Math.log(v))};
    }

    /* What couplings make of z, and the logarithm of how they stretch space: each keeps the first half, scales and shifts the other by what it reads off the first, and changes their places. */
    bend(nets, z, context = []) {
      const D = z.length, half = Math.ceil(D / 2);
      let stretch = 0;
      for (const net of nets) {
        const kept = z.slice(0, half), read = this.run(net, Float64Array.from([...kept, ...context])), y = new Float64Array(D);
        for (let i = 0; i < D - half; i++) { const s = Math.tanh(read[i]); y[i] = z[half + i] * Math.exp(s) + read[D - half + i]; stretch += s; }
        y.set(kept, D - half);
        z = y;
      }
      return {z, stretch};
    }

    unbend(nets, y, context = []) {
      const D = y.length, half = Math.ceil(D / 2);
      let stretch = 0;
      for (const net of [...nets].reverse()) {
        const kept = y.slice(D - half), read = this.run(net, Float64Array.from([...kept, ...context])), z = new Float64Array(D);
        z.set(kept);
        for (let i = 0; i < D - half; i++) { const s = Math.tanh(read[i]); z[half + i] = (y[i] - read[D - half + i]) / Math.exp(s); stretch += s; }
        y = z;
      }
      return {z: y, stretch};
    }

    /* q of two layers: the lower drawn first, or, as a ladder, the upper one. */
    layered(h) {
      const seen = this.gaussian(this.run(this.seen, h)), q = {seen, first: this.spec.layers.ladder ? this.gaussian(this.run(this.up, h)) : seen};
      q.mu = this.pair(q.first.mu, this.second(q, q.first.mu).mu);
      return q;
    }

    pair(first, second) { return Float64Array.from(this.spec.layers.ladder ? [...first, ...second] : [...second, ...first]); }

    second(q, first) {
      if (!this.spec.layers.ladder) return this.gaussian(this.run(this.up, first));
      const p = this.below(first), logvar = p.logvar.map((v, i) => -Math.log(Math.exp(-v) + Math.exp(-q.seen.logvar[i])));
      return {mu: p.mu.map((m, i) => (m * Math.exp(-p.logvar[i]) + q.seen.mu[i] * Math.exp(-q.seen.logvar[i])) * Math.exp(logvar[i])), logvar, sigma: logvar.map(v => Math.exp(v / 2))};
    }

    /* p(lower|upper) of two layers. */
    below(upper) { return this.gaussian(this.run(this.priorParts.layers, upper)); }

    /* z with the mean of p(lower|upper) below its upper layer; of one layer z itself. */
    settled(z) { return this.top ? Float64Array.from([...z.slice(0, this.top), ...this.below(Float64Array.from(z.slice(0, this.top))).mu]) : z; }

    /* The draw from q that noise makes; of two layers the noise of the upper one comes first. */
    draw(q, noise) {
      const at = (g, eps) => g.mu.map((m, i) => m + g.sigma[i] * eps[i]);
      if (q.base) return this.bend(this.couplings, at(q.base, noise), q.context).z;
      if (q.first) {
        const upper = noise.slice(0, this.top), lower = noise.slice(this.top), [one, two] = this.spec.layers.ladder ? [upper, lower] : [lower, upper], first = at(q.first, one);
        return this.pair(first, at(this.second(q, first), two));
      }
      if (!q.lower) return at(q, noise);
      const D = this.width;
      return q.mu.map((m, i) => { let v = m; for (let j = 0; j <= i; j++) v += q.lower[i * D + j] * noise[j]; return v; });
    }

    /* log q(z|x). */
    logQ(q, z) {
      if (q.base) { const {z: start, stretch} = this.unbend(this.couplings, Float64Array.from(z), q.context); return logNormal(start, q.base.mu, q.base.logvar) - stretch; }
      if (q.first) {
        const upper = Float64Array.from(z.slice(0, this.top)), lower = Float64Array.from(z.slice(this.top)), [one, two] = this.spec.layers.ladder ? [upper, lower] : [lower, upper], p = this.second(q, one);
        return logNormal(one, q.first.mu, q.first.logvar) + logNormal(two, p.mu, p.logvar);
      }
      if (!q.lower) return logNormal(z, q.mu, q.logvar);
      const D = this.width, y = new Float64Array(D);
      let total = -D * LOG2PI / 2;
      for (let i = 0; i < D; i++) {
        let v = z[i] - q.mu[i];
        for (let j = 0; j < i; j++) v -= q.lower[i * D + j] * y[j];
        y[i] = v / q.lower[i * D + i];
        total -= y[i] ** 2 / 2 + Math.log(q.lower[i * D + i]);
      }
      return total;
    }

    codes(x) { return this.encode(x).codes; }

    nearest(h) {
      const [K, D] = this.spec.codebook.shape, [rows, columns] = this.spec.codes, n = rows * columns, found = new Int32Array(n);
      this.norms = this.norms || Float64Array.from({length: K}, (_, k) => { let s = 0; for (let d = 0; d < D; d++) s += this.codebook[k * D + d] ** 2; return s; });
      for (let p = 0; p < n; p++) {
        let best = Infinity;
        for (let k = 0; k < K; k++) {
          let s = this.norms[k];
          for (let d = 0; d < D; d++) s -= 2 * this.codebook[k * D + d] * h[d * n + p];
          if (s < best) { best = s; found[p] = k; }
        }
      }
      return found;
    }

    lookUp(codes) {
      const D = this.spec.codebook.shape[1], n = codes.length, out = new Float64Array(D * n);
      for (let p = 0; p < n; p++) for (let d = 0; d < D; d++) out[d * n + p] = this.codebook[codes[p] * D + d];
      return out;
    }

    /* p(x|z, c): {mean, out}, and the scale of each value where it has one. z are numbers, or codes. */
    decode(z, c) {
      const input = this.codebook ? this.lookUp(z) : Float64Array.from(this.top ? z.slice(this.top) : z);
      const from = this.codebook ? [this.spec.codebook.shape[1], ...this.spec.codes] : [input.length];
      const out = this.run(this.decoder, input, from, this.embed(c)), name = this.spec.likelihood.name;
      if (name === "bernoulli") return {mean: out.map(sigmoid), out};
      if (name !== "spread") return {mean: out, out, scale: this.scale};
      const n = out.length / 2;
      return {mean: out.slice(0, n), out, scale: out.slice(n).map(v => this.spec.likelihood.floor + softplus(v))};
    }

    /* −log p(x|z, c) in nats, summed over the pixels. */
    cost(p, x) {
      const name = this.spec.likelihood.name;
      let total = 0;
      for (let i = 0; i < x.length; i++) {
        let v;
        if (name === "bernoulli") { const l = p.out[i]; v = softplus(l) - l * x[i]; }
        else {
          const s = p.scale.length === 1 ? p.scale[0] : p.scale[i], off = (x[i] - p.mean[i]) / s;
          v = name === "laplace" ? Math.abs(off) + Math.log(2 * s) : off * off / 2 + Math.log(s) + LOG2PI / 2;
        }
        total += this.unseen ? v * this.unseen[i] : v;
      }
      return total;
    }

    /* p(z|c) as a Gaussian {mu, logvar, sigma}; null where it is none. */
    priorOf(c) {
      const prior = this.priorParts;
      if (prior.name === "learned") return this.gaussian(this.run(prior.layers, this.embed(c)));
      if (prior.name !== "normal") return null;
      const zero = new Float64Array(this.width);
      return {mu: zero, logvar: zero, sigma: zero.map(() => 1)};
    }

    /* The KL of each latent in closed form; null where q or the prior is no diagonal Gaussian. */
    klByLatent(q, c) {
      const p = q.base || q.first || q.lower ? null : this.priorOf(c);
      return p && q.mu.map((m, i) => (Math.exp(q.logvar[i] - p.logvar[i]) + (m - p.mu[i]) ** 2 / Math.exp(p.logvar[i]) - 1 - q.logvar[i] + p.logvar[i]) / 2);
    }

    kl(q, z, c) {
      const parts = this.klByLatent(q, c);
      return parts ? parts.reduce((a, b) => a + b, 0) : this.logQ(q, z) - this.logPrior(z, c);
    }

    logPrior(z, c) {
      const prior = this.priorParts, p = this.priorOf(c);
      if (p) return logNormal(z, p.mu, p.logvar);
      if (prior.name === "flow") {
        const {z: start, stretch} = this.unbend(prior.nets, Float64Array.from(z)), zero = new Float64Array(this.width);
        return logNormal(start, zero, zero) - stretch;
      }
      if (prior.name === "vamp") return logSumExp(prior.each.map(q => this.logQ(q, z))) - Math.log(prior.each.length);
      if (prior.name === "layers") {
        const upper = Float64Array.from(z.slice(0, this.top)), zero = new Float64Array(this.top), below = this.below(upper);
        return logNormal(upper, zero, zero) + logNormal(z.slice(this.top), below.mu, below.logvar);
      }
      const K = prior.logits.length, D = this.width, each = [], top = Math.max(...prior.logits);
      const total = top + Math.log(prior.logits.reduce((s, l) => s + Math.exp(l - top), 0));
      for (let k = 0; k < K; k++) each.push(prior.logits[k] - total + logNormal(z, prior.mu.subarray(k * D, k * D + D), prior.logvar.subarray(k * D, k * D + D)));
      return logSumExp(each);
    }

    /* Both terms of −ELBO in nats for an image: with noise (K draws side by side), the mean over them; without, at the mean of q. */
    terms(x, c, noise) {
      if (this.codebook) {
        const codes = this.codes(x), reconstruction = this.cost(this.decode(codes), x), kl = -this.logCodes(codes);
        return {reconstruction, kl, negElbo: reconstruction + kl};
      }
      const q = this.encode(x, c), D = this.width, K = noise ? noise.length / D : 1;
      let reconstruction = 0, kl = 0;
      for (let k = 0; k < K; k++) {
        const z = noise ? this.draw(q, noise.slice(k * D, k * D + D)) : q.mu;
        reconstruction += this.cost(this.decode(z, c), x) / K;
        kl += this.kl(q, z, c) / K;
      }
      return {reconstruction, kl, negElbo: reconstruction + kl, q};
    }

    /* An image as it is shown: with the pixels that were given, where the model is told a part of it and makes only the others. */
    whole(mean, c) { return this.unseen ? mean.map((v, i) => this.unseen[i] ? v : c[i]) : mean; }

    reconstruct(x, c, other) {
      const q = this.encode(x, c);
      return this.decode(q.codes || q.mu, other === undefined ? c : other).mean;
    }

    /* q(y|x) of a model with a latent label. */
    classify(x) { return softmax(this.run(this.classifier, x, this.shape)); }

    /* A draw from p(z|c), its deviations times the temperature. */
    drawLatent(random, c, temperature = 1) {
      const prior = this.priorParts, eps = random.normals(this.width);
      let p = this.priorOf(c);
      if (prior.name === "flow") return this.bend(prior.nets, eps.map(e => temperature * e)).z;
      if (prior.name === "vamp") return this.draw(prior.each[Math.floor(random.uniform() * prior.each.length)], eps.map(e => temperature * e));
      if (prior.name === "layers") {
        const upper = eps.slice(0, this.top).map(e => temperature * e), {mu, sigma} = this.below(upper);
        return Float64Array.from([...upper, ...mu.map((m, i) => m + temperature * sigma[i] * eps[this.top + i])]);
      }
      if (!p) {
        const k = pick(softmax(prior.logits), random), D = this.width;
        p = {mu: prior.mu.slice(k * D, k * D + D), sigma: prior.logvar.slice(k * D, k * D + D).map(v => Math.exp(v / 2))};
      }
      return Float64Array.from(eps, (e, i) => p.mu[i] + temperature * p.sigma[i] * e);
    }

    // -------------------------------------------------- a prior over codes

    logCodes(codes) {
      const prior = this.priorParts;
      if (prior.name === "uniform") return -codes.length * Math.log(this.spec.n_codes);
      const walk = this.walk();
      let total = 0;
      for (let p = 0, before = this.spec.n_codes; p < codes.length; before = codes[p++]) {
        const logits = walk(before);
        total += logits[codes[p]] - logSumExp(logits);
      }
      return total;
    }

    drawCodes(random, temperature = 1) {
      const n = count(this.spec.codes), codes = new Int32Array(n), prior = this.priorParts;
      const walk = prior.name === "uniform" ? () => new Float64Array(this.spec.n_codes) : this.walk();
      for (let p = 0, before = this.spec.n_codes; p < n; before = codes[p++])
        codes[p] = pick(softmax(walk(before).map(v => v / Math.max(temperature, 1e-3))), random);
      return codes;
    }

    /* The transformer, one place after another: keys and values of the places before are kept. */
    walk() {
      const {embed, place, width, blocks, norm, head} = this.priorParts, kept = blocks.map(() => []);
      let at = 0;
      const apply = (m, x) => linear(m.w, m.b, x, m.size[0]);
      const normed = (n, x) => {
        let mean = 0, square = 0;
        for (const v of x) mean += v / x.length;
        for (const v of x) square += (v - mean) ** 2 / x.length;
        const s = 1 / Math.sqrt(square + n.eps);
        return x.map((v, i) => (v - mean) * s * n.scale[i] + n.shift[i]);
      };
      return code => {
        let x = Float64Array.from({length: width}, (_, i) => embed[code * width + i] + place[at * width + i]);
        at++;
        blocks.forEach((b, layer) => {
          const qkv = apply(b.qkv, normed(b.norm1, x)), size = width / b.heads, mixed = new Float64Array(width);
          kept[layer].push(qkv);
          for (let h = 0; h < b.heads; h++) {
            const from = h * size, scores = kept[layer].map(other => {
              let s = 0;
              for (let i = 0; i < size; i++) s += qkv[from + i] * other[width + from + i];
              return s / Math.sqrt(size);
            });
            softmax(scores).forEach((share, t) => { for (let i = 0; i < size; i++) mixed[from + i] += share * kept[layer][t][2 * width + from + i]; });
          }
          const added = apply(b.out, mixed);
          x = x.map((v, i) => v + added[i]);
          const more = apply(b.second, kinds.silu(null, apply(b.first, normed(b.norm2, x))));
          x = x.map((v, i) => v + more[i]);
        });
        return apply(head, normed(norm, x));
      };
    }
  }

  const logNormal = (z, mu, logvar) => {
    let total = 0;
    for (let i = 0; i < z.length; i++) total -= ((z[i] - mu[i]) ** 2 / Math.exp(logvar[i]) + logvar[i] + LOG2PI) / 2;
    return total;
  };
  const logSumExp = v => { let top = -Infinity, s = 0; for (const a of v) top = Math.max(top, a); for (const a of v) s += Math.exp(a - top); return top + Math.log(s); };
  const softmax = v => { const total = logSumExp(v); return Float64Array.from(v, a => Math.exp(a - total)); };
  const pick = (shares, random) => { let u = random.uniform(), k = 0; while (k < shares.length - 1 && (u -= shares[k]) > 0) k++; return k; };

  // ------------------------------------------------------------------ pictures and controls

  const css = `
.live-app{--ground:#fff;--ink:#222;--soft:#595959;--line:#c4c4c4;--accent:#3348c7;--accent-ink:#fff;--field:#f3f3f5;color:var(--ink);background:var(--ground);font:16px/1.45 system-ui,sans-serif;box-sizing:border-box;max-width:100%}
@media (prefers-color-scheme:dark){.live-app{--ground:#16171b;--ink:#ececf0;--soft:#b4b4be;--line:#55565f;--accent:#a9b6ff;--accent-ink:#11131d;--field:#24262d}}
html.quarto-light .live-app,body[data-jp-theme-light="true"] .live-app{--ground:#fff;--ink:#222;--soft:#595959;--line:#c4c4c4;--accent:#3348c7;--accent-ink:#fff;--field:#f3f3f5}
html.quarto-dark .live-app,body[data-jp-theme-light="false"] .live-app{--ground:#16171b;--ink:#ececf0;--soft:#b4b4be;--line:#55565f;--accent:#a9b6ff;--accent-ink:#11131d;--field:#24262d}
html.quarto-light .live-app,html.quarto-dark .live-app,body[data-jp-theme-light] .live-app{background:none}
.live-row:has(.live-app){display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1rem}
.live-app *{box-sizing:border-box}
.live-app h2{font-size:1.15rem;margin:1.6rem 0 .4rem;border:0;color:var(--ink)}
.live-app p{margin:.3rem 0 .6rem;max-width:44rem}
.live-row{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}
.live-col{min-width:0;max-width:100%}
.live-app figure{margin:0;max-width:100%}
.live-app figcaption,.live-app .live-soft{color:var(--soft);font-size:.875rem}
.live-pad{display:block;width:320px;max-width:100%;touch-action:none;border:1px solid var(--line);border-radius:6px;cursor:crosshair;background:var(--field)}
.live-picture{display:block;image-rendering:pixelated;border:1px solid var(--line);background:#000}
.live-app :focus-visible{outline:3px solid var(--accent);outline-offset:2px}
.live-app button,.live-app select,.live-app input[type=file]{font:inherit;color:var(--ink);background:var(--field);border:1px solid var(--line);border-radius:6px;padding:.3rem .7rem;min-height:44px;max-width:100%}
.live-app button[aria-pressed=true]{background:var(--accent);color:var(--accent-ink);border-color:var(--accent)}
.live-app input[type=range]{width:100%;min-height:28px;accent-color:var(--accent)}
.live-slide{display:grid;grid-template-columns:9rem 1fr minmax(3.2rem,max-content);gap:.5rem;align-items:center;max-width:26rem}
.live-say{display:block;min-height:1.5em;margin:.4rem 0;font-variant-numeric:tabular-nums}
.live-app table{border-collapse:collapse;font-variant-numeric:tabular-nums;color:var(--ink)}
.live-app th,.live-app td{text-align:left;padding:.15rem .8rem .15rem 0;border:0;color:var(--ink);font-weight:400;background:none}
.live-drop{border:2px dashed var(--line);border-radius:6px;padding:.6rem;max-width:20rem}
.live-drop.over{border-color:var(--accent)}
.live-strip{display:flex;flex-wrap:wrap;gap:4px;margin-bottom:.4rem}
.live-app .live-take{padding:2px 4px;display:grid;justify-items:center;align-content:start;font-size:.875rem}
.live-app .live-take[aria-pressed=true]{box-shadow:0 0 0 2px var(--accent)}
.live-app [aria-pressed=true]:focus-visible{outline-color:var(--ink);outline-offset:4px}
.live-rows{display:grid;grid-template-columns:repeat(9,minmax(0,40px)) max-content;gap:4px;align-items:center;max-width:100%}
.live-rows canvas{width:100%!important;height:auto!important}
.live-rows span{color:var(--soft);font-size:.875rem;padding-left:.3rem;font-variant-numeric:tabular-nums}
.live-app details{margin:.3rem 0}
.live-app summary{color:var(--soft);font-size:.875rem;cursor:pointer}
.live-key{display:flex;flex-wrap:wrap;gap:.2rem .8rem;font-size:.875rem;list-style:none;margin:.3rem 0;padding:0;max-width:320px}
.live-key i{display:inline-block;width:.75em;height:.75em;border-radius:50%;margin-right:.3em}
@media (max-width:480px){.live-slide{grid-template-columns:7.8rem 1fr minmax(3rem,max-content)}}
`;
  const colours = ["#6a80ff", "#e5484d", "#2aaa40", "#b065ff", "#8f8f78", "#e8862e", "#00a5b5", "#e256a8", "#b8a000", "#7a9a5a"];

  const el = (tag, attributes = {}, ...children) => {
    const e = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes)) {
      if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
      else if (v === true) e.setAttribute(k, "");
      else if (v !== false && v !== null && v !== undefined) e.setAttribute(k, v);
    }
    e.append(...children.filter(c => c !== null && c !== undefined));
    return e;
  };
  let names = 0;
  const named = () => `live-${++names}`;
  const styled = () => { if (!document.getElementById("live-style")) document.head.append(el("style", {id: "live-style"}, css)); };
  const round = (v, digits = 2) => { const text = Math.abs(v).toFixed(digits); return (v < 0 && +text ? "−" : "") + text; };
  const shades = host => { const s = getComputedStyle(host); return {ink: s.getPropertyValue("--ink").trim() || "#222", soft: s.getPropertyValue("--soft").trim() || "#666", line: s.getPropertyValue("--line").trim() || "#ccc", accent: s.getPropertyValue("--accent").trim() || "#33c", ground: s.getPropertyValue("--field").trim() || "#fff"}; };

  /* Bytes of an image for a canvas: grey or colour, numbers in [0, 1]. */
  const paint = (data, x, shape) => {
    const [C, H, W] = shape, n = H * W;
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < 3; k++) data[4 * i + k] = Math.round(255 * Math.min(1, Math.max(0, x[(C === 3 ? k * n : 0) + i])));
      data[4 * i + 3] = 255;
    }
  };
  const still = (shape, x, pixels = 64) => {    // a small canvas
    const canvas = el("canvas", {class: "live-picture", width: shape[2], height: shape[1], style: `width:${pixels}px;height:${pixels * shape[1] / shape[2]}px`});
    if (x) show(canvas, x, shape);
    return canvas;
  };
  const show = (canvas, x, shape) => {
    const context = canvas.getContext("2d"), image = context.createImageData(shape[2], shape[1]);
    paint(image.data, x, shape);
    context.putImageData(image, 0, 0);
  };
  const picture = (shape, caption, pixels = 160) => {
    const canvas = still(shape, null, pixels);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", caption);
    const figure = el("figure", {}, canvas, el("figcaption", {}, caption));
    return {element: figure, canvas, set: (x, words) => { show(canvas, x, shape); if (words) canvas.setAttribute("aria-label", words); }};
  };

  /* `words` says a value, where the slider moves something else than what is shown: a logarithm. */
  const slider = (label, value, low, high, step, change, words) => {
    const id = named(), shown = el("span", {"aria-hidden": "true"});
    const tell = v => { shown.textContent = (words || round)(v); if (words) input.setAttribute("aria-valuetext", words(v)); };
    const input = el("input", {type: "range", id, min: low, max: high, step, value, oninput: () => { tell(+input.value); change(+input.value); }});
    tell(value);
    return {element: el("div", {class: "live-slide"}, el("label", {for: id}, label), input, shown), input, set: v => { input.value = v; tell(v); }};
  };
  const choice = (label, options, value, change) => {
    const id = named(), select = el("select", {id, onchange: () => change(+select.value)}, ...options.map((o, i) => el("option", {value: i, selected: i === value}, o)));
    return {element: el("p", {}, el("label", {for: id}, `${label} `), select), select, set: v => { select.value = v; }};
  };
  const button = (words, press, more = {}) => el("button", {type: "button", onclick: press, ...more}, words);

  /* Spoken and shown; a new sentence waits until the hand rests. */
  const speaker = () => {
    const element = el("output", {class: "live-say", role: "status", "aria-live": "polite"});
    let timer;
    return {element, say: (words, now) => { clearTimeout(timer); if (now) element.textContent = words; else timer = setTimeout(() => { element.textContent = words; }, 120); }};
  };

  /* A square of two numbers with a point to drag: pointer, touch and arrow keys. `draw` is called after the ground, with the way from numbers to pixels. */
  const pad = ({label, span, value = [0, 0], change, ground, over, cross = true}) => {
    const size = 640, canvas = el("canvas", {class: "live-pad", width: size, height: size, tabindex: "0", role: "application", "aria-roledescription": "plane", "aria-label": label});
    const at = [...value];
    const px = v => (v[0] / span + 1) / 2 * size, py = v => (1 - v[1] / span) / 2 * size;
    const redraw = () => {
      const g = canvas.getContext("2d"), tone = shades(canvas);
      g.fillStyle = tone.ground;
      g.fillRect(0, 0, size, size);
      if (ground) ground(g, px, py, tone, size);
      g.strokeStyle = tone.line;
      g.lineWidth = 2;
      const reach = cross ? size / 2 : 18;      // the axes, or short marks where images lie below
      g.beginPath(); for (const [x, y] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) { g.moveTo(size / 2 * (1 + x), size / 2 * (1 + y)); g.lineTo(size / 2 * (1 + x) - reach * x, size / 2 * (1 + y) - reach * y); } g.stroke();
      if (over) over(g, px, py, tone, size);
      g.beginPath(); g.arc(px(at), py(at), 14, 0, 7);
      g.fillStyle = tone.accent; g.fill();
      g.lineWidth = 4; g.strokeStyle = tone.ink; g.stroke();
    };
    const go = (x, y, quiet) => {
      at[0] = Math.min(span, Math.max(-span, x));
      at[1] = Math.min(span, Math.max(-span, y));
      redraw();
      if (!quiet && change) change(at);
    };
    const follow = event => {
      const box = canvas.getBoundingClientRect();
      go(((event.clientX - box.left) / box.width * 2 - 1) * span, (1 - (event.clientY - box.top) / box.height * 2) * span);
    };
    /* A finger takes the point where it lies, or draws it sideways from elsewhere; up and down from elsewhere the page scrolls. */
    const near = event => { const box = canvas.getBoundingClientRect(); return Math.hypot(event.clientX - box.left - px(at) / size * box.width, event.clientY - box.top - py(at) / size * box.height) < 44; };
    let held = null, start = null;              // of a finger that may yet scroll
    canvas.style.touchAction = "pan-y";
    canvas.addEventListener("touchstart", event => { if (event.touches.length === 1 && near(event.touches[0])) event.preventDefault(); }, {passive: false});
    canvas.addEventListener("pointerdown", event => {
      held = event.pointerId; canvas.focus({preventScroll: true});
      start = event.pointerType === "touch" && !near(event) ? [event.clientX, event.clientY] : null;
      if (start) return;
      canvas.setPointerCapture(event.pointerId); follow(event); event.preventDefault();
    });
    canvas.addEventListener("pointermove", event => {
      if (event.pointerId !== held) return;
      if (start && Math.abs(event.clientX - start[0]) < Math.max(8, Math.abs(event.clientY - start[1]))) return;
      start = null; canvas.setPointerCapture(held); follow(event);
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, event => { if (event.pointerId === held) held = null; });
    canvas.addEventListener("click", event => { if (event.pointerType === "touch") follow(event); });
    canvas.addEventListener("keydown", event => {
      const step = span / (event.shiftKey ? 6 : 30), way = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
      if (event.key === "Home") go(0, 0);
      else if (event.key === "End") go(span, at[1]);
      else if (way) go(at[0] + way[0] * step, at[1] + way[1] * step);
      else return;
      event.preventDefault();
    });
    watchShades(redraw);
    return {element: canvas, at, set: (x, y) => go(x, y, true), redraw};
  };
  const watchShades = redraw => {
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    for (const root of [document.documentElement, document.body]) new MutationObserver(redraw).observe(root, {attributes: true, attributeFilter: ["class", "data-jp-theme-light"]});
    requestAnimationFrame(redraw);
  };

  /* A grid of cells with a cursor: press, drag, arrow keys and Enter. */
  const cells = ({label, rows, columns, draw, press, cell = 40}) => {
    const canvas = el("canvas", {class: "live-pad", width: columns * cell, height: rows * cell, tabindex: "0", role: "application", "aria-roledescription": "grid of cells", "aria-label": label});
    const at = [0, 0];
    const redraw = () => {
      const g = canvas.getContext("2d"), tone = shades(canvas);
      g.fillStyle = tone.ground;
      g.fillRect(0, 0, canvas.width, canvas.height);
      for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) draw(g, r, c, c * cell, r * cell, cell, tone);
      g.lineWidth = 4; g.strokeStyle = tone.accent;
      g.strokeRect(at[1] * cell + 2, at[0] * cell + 2, cell - 4, cell - 4);
    };
    const go = (r, c, pressed) => {
      at[0] = Math.min(rows - 1, Math.max(0, r)); at[1] = Math.min(columns - 1, Math.max(0, c));
      press(at[0], at[1], pressed);
      redraw();
    };
    const follow = event => { const b = canvas.getBoundingClientRect(); go(Math.floor((event.clientY - b.top) / b.height * rows), Math.floor((event.clientX - b.left) / b.width * columns), true); };
    canvas.addEventListener("pointerdown", event => { canvas.setPointerCapture(event.pointerId); canvas.focus({preventScroll: true}); follow(event); event.preventDefault(); });
    canvas.addEventListener("pointermove", event => { if (canvas.hasPointerCapture(event.pointerId)) follow(event); });
    canvas.addEventListener("keydown", event => {
      const way = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
      if (way) go(at[0] + way[0], at[1] + way[1], false);
      else if (event.key === "Enter" || event.key === " ") go(at[0], at[1], true);
      else return;
      event.preventDefault();
    });
    watchShades(redraw);
    return {element: canvas, at, redraw};
  };

  // ------------------------------------------------------------------ images of the reader's

  /* Mean of each cell when an image (numbers, H × W) is brought to h × w: every part of it counts by its area. */
  const resized = (x, H, W, h, w) => {
    const out = new Float64Array(h * w);
    for (let r = 0; r < h; r++) for (let c = 0; c < w; c++) {
      const y0 = r * H / h, y1 = (r + 1) * H / h, x0 = c * W / w, x1 = (c + 1) * W / w;
      let total = 0, area = 0;
      for (let y = Math.floor(y0); y < Math.min(H, Math.ceil(y1 - 1e-9)); y++) for (let k = Math.floor(x0); k < Math.min(W, Math.ceil(x1 - 1e-9)); k++) {
        const a = (Math.min(y1, y + 1) - Math.max(y0, y)) * (Math.min(x1, k + 1) - Math.max(x0, k));
        total += a * x[y * W + k]; area += a;
      }
      out[r * w + c] = area ? total / area : 0;
    }
    return out;
  };

  /* As MNIST was made: what is drawn is scaled to 20 of 28 pixels and put so that its center of mass is in the middle. */
  const centred = (ink, H, W, h, w) => {
    let top = H, bottom = -1, left = W, right = -1;
    for (let y = 0; y < H; y++) for (let x = 0; x < W; x++) if (ink[y * W + x] > .05) { top = Math.min(top, y); bottom = Math.max(bottom, y); left = Math.min(left, x); right = Math.max(right, x); }
    const out = new Float64Array(h * w);
    if (bottom < 0) return out;
    const bh = bottom - top + 1, bw = right - left + 1, box = new Float64Array(bh * bw), most = Math.round(20 / 28 * Math.min(h, w));
    for (let y = 0; y < bh; y++) for (let x = 0; x < bw; x++) box[y * bw + x] = ink[(top + y) * W + left + x];
    const factor = most / Math.max(bh, bw), sh = Math.max(1, Math.round(bh * factor)), sw = Math.max(1, Math.round(bw * factor));
    const little = resized(box, bh, bw, sh, sw);
    let mass = 0, my = 0, mx = 0;
    for (let y = 0; y < sh; y++) for (let x = 0; x < sw; x++) { const v = little[y * sw + x]; mass += v; my += v * (y + .5); mx += v * (x + .5); }
    const dy = Math.round(h / 2 - my / mass), dx = Math.round(w / 2 - mx / mass);
    for (let y = 0; y < sh; y++) for (let x = 0; x < sw; x++) { const r = y + dy, c = x + dx; if (r >= 0 && r < h && c >= 0 && c < w) out[r * w + c] = little[y * sw + x]; }
    return out;
  };

  /* A picture of any size as the model takes it: grey or colour, padded with black, cut or stretched. */
  const fitted = (image, shape, how = "pad") => {
    const [C, H, W] = shape, {width, height, data} = image, out = new Float64Array(C * H * W);
    const scale = how === "crop" ? Math.max(H / height, W / width) : Math.min(H / height, W / width);
    const h = how === "stretch" ? H : Math.max(1, Math.round(height * scale)), w = how === "stretch" ? W : Math.max(1, Math.round(width * scale));
    const dy = Math.floor((H - h) / 2), dx = Math.floor((W - w) / 2);
    for (let k = 0; k < C; k++) {
      const plane = new Float64Array(width * height);
      for (let i = 0; i < plane.length; i++) {
        const [r, g, b, a] = [data[4 * i], data[4 * i + 1], data[4 * i + 2], data[4 * i + 3] / 255];
        plane[i] = a * (C === 3 ? [r, g, b][k] : .299 * r + .587 * g + .114 * b) / 255;
      }
      const small = resized(plane, height, width, h, w);
      for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) { const r = y + dy, c = x + dx; if (r >= 0 && r < H && c >= 0 && c < W) out[(k * H + r) * W + c] = small[y * w + x]; }
    }
    return out;
  };

  const readFile = async file => {
    const bitmap = await createImageBitmap(file), canvas = el("canvas", {width: bitmap.width, height: bitmap.height}), g = canvas.getContext("2d");
    g.drawImage(bitmap, 0, 0);
    return g.getImageData(0, 0, bitmap.width, bitmap.height);
  };

  /* A square to draw on, light on dark, with pointer or finger; `change` gets the ink, 0 to 1, of 280 × 280. `inside` are the boxes that may be drawn in, where not all of it may: left, top, width and height as shares. */
  const sketch = (change, inside) => {
    const size = 280, canvas = el("canvas", {class: "live-pad", width: size, height: size, role: "img", "aria-label": "Draw here with a pointer or a finger", style: "background:#000;width:280px"});
    const g = canvas.getContext("2d", {willReadFrequently: true});
    let last = null;
    const clear = () => { g.fillStyle = "#000"; g.fillRect(0, 0, size, size); };
    const point = event => { const b = canvas.getBoundingClientRect(); return [(event.clientX - b.left) / b.width * size, (event.clientY - b.top) / b.height * size]; };
    const stroke = to => {
      g.strokeStyle = "#fff"; g.lineWidth = 22; g.lineCap = g.lineJoin = "round";
      g.beginPath(); g.moveTo(...last); g.lineTo(to[0] + .01, to[1]); g.stroke();
      last = to;
    };
    const ink = () => { const d = g.getImageData(0, 0, size, size).data, out = new Float64Array(size * size); for (let i = 0; i < out.length; i++) out[i] = d[4 * i] / 255; return out; };
    canvas.addEventListener("pointerdown", event => { canvas.setPointerCapture(event.pointerId); last = point(event); stroke(last); change(ink(), size); event.preventDefault(); });
    canvas.addEventListener("pointermove", event => { if (last && canvas.hasPointerCapture(event.pointerId)) { stroke(point(event)); change(ink(), size); } });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
    clear();
    if (inside) { g.beginPath(); for (const [l, t, w, h] of inside) g.rect(l * size, t * size, w * size, h * size); g.clip(); }
    return {element: canvas, clear: () => { clear(); change(ink(), size); }, put: picture => { clear(); g.imageSmoothingEnabled = false; g.drawImage(picture, 0, 0, size, size); }};
  };

  /* Where an image is dropped, chosen or pasted. */
  const dropZone = take => {
    const id = named(), input = el("input", {type: "file", id, accept: "image/*", onchange: () => input.files[0] && take(input.files[0])});
    const zone = el("div", {class: "live-drop"}, el("label", {for: id}, "Drop an image here, or choose a file: "), input);
    zone.addEventListener("dragover", event => { event.preventDefault(); zone.classList.add("over"); });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", event => { event.preventDefault(); zone.classList.remove("over"); const file = event.dataTransfer.files[0]; if (file) take(file); });
    return zone;
  };

  /* What a model with a condition is asked for. */
  const conditionControls = (program, classes, label, change) => {
    const kind = program.spec.condition, one = (k, words, set) => k.kind === "labels"
      ? choice(words, Array.from({length: k.classes}, (_, i) => classes[i] || String(i)), 0, set).element
      : slider(words, (k.low + k.high) / 2, k.low, k.high, (k.high - k.low) / 100, set).element;
    if (!kind || kind.kind === "part") return {element: null, value: () => null};
    const parts = kind.kind === "columns" ? kind.parts : [kind], values = parts.map(k => k.kind === "labels" ? 0 : (k.low + k.high) / 2);
    const rows = parts.map((k, i) => one(k, parts.length > 1 ? `${label}, ${i + 1}` : label, v => { values[i] = v; change(); }));
    return {element: el("div", {}, ...rows), value: () => kind.kind === "columns" ? values : values[0],
      set: v => { values[0] = v; const s = rows[0].querySelector("select"); if (s) s.value = v; }};
  };

  const ellipse = (g, px, py, mu, sigma, colour) => {
    for (const k of [1, 2]) {
      g.beginPath();
      g.ellipse(px(mu), py(mu), Math.abs(px([mu[0] + k * sigma[0], 0]) - px(mu)), Math.abs(py([0, mu[1] + k * sigma[1]]) - py(mu)), 0, 0, 7);
      g.lineWidth = 4; g.strokeStyle = colour; g.stroke();
    }
    g.beginPath(); g.arc(px(mu), py(mu), 5, 0, 7); g.fillStyle = colour; g.fill();
  };

  /* q(z|x) on two latents: an ellipse, turned by a covariance; what is no Gaussian as draws. */
  const qWords = program => program.top || program.couplings ? "a hundred draws as rings, and the code as a dot" : `an ellipse of one and of two deviations${program.spec.posterior ? ", turned by the covariance" : ""}`;
  const cloudOf = (program, q) => q.base || q.first ? Array.from({length: 100}, (_, k) => program.draw(q, randomOf(k + 1).normals(program.width))) : null;
  const ring = (g, x, y, colour) => { g.beginPath(); g.arc(x, y, 5, 0, 7); g.lineWidth = 2; g.strokeStyle = colour; g.stroke(); };
  const drawQ = (g, px, py, program, q, [i, j], colour, cloud) => {
    const mu = [q.mu[i], q.mu[j]], D = program.width;
    if (cloud) {
      for (const z of cloud) ring(g, px([z[i], z[j]]), py([z[i], z[j]]), colour);
      g.beginPath(); g.arc(px(mu), py(mu), 6, 0, 7); g.fillStyle = colour; g.fill();
    } else if (q.lower) {
      const product = (a, b) => { let s = 0; for (let k = 0; k < D; k++) s += q.lower[a * D + k] * q.lower[b * D + k]; return s; };
      const a = q.sigma[i], b = product(i, j) / a, c = Math.sqrt(Math.max(0, product(j, j) - b * b));   // the factor of the covariance of these two
      for (const k of [1, 2]) {
        g.beginPath();
        for (let t = 0; t <= 64; t++) { const u = Math.cos(t * Math.PI / 32), w = Math.sin(t * Math.PI / 32), at = [mu[0] + k * a * u, mu[1] + k * (b * u + c * w)]; g.lineTo(px(at), py(at)); }
        g.lineWidth = 4; g.strokeStyle = colour; g.stroke();
      }
      g.beginPath(); g.arc(px(mu), py(mu), 5, 0, 7); g.fillStyle = colour; g.fill();
    } else ellipse(g, px, py, mu, [q.sigma[i], q.sigma[j]], colour);
  };

  // ------------------------------------------------------------------ parts of a page

  const DRAWS = 20;                             // of z for the terms of an image
  const noiseFor = program => randomOf(1).normals(DRAWS * program.width);
  const argmax = v => v.reduce((best, a, i) => a > v[best] ? i : best, 0);
  const imagesOf = (examples, shape) => {       // bytes, one image after another
    if (!examples || !examples.images) return [];
    const bytes = bytesOf(examples.images), n = count(shape);
    return Array.from({length: bytes.length / n}, (_, i) => Float64Array.from(bytes.subarray(i * n, i * n + n), v => v / 255));
  };
  const floats = text => text ? numbersOf(bytesOf(text), {kind: "float32", at: 0, shape: [atob(text).length / 4]}) : null;
  const orderOf = program => program.spec.about.order || Array.from({length: program.width}, (_, i) => i);
  const axesOf = program => { const [a, b] = orderOf(program); return [a, b === undefined || program.top === 1 ? a : b]; };   // of two layers, of the upper one
  const nameOf = (program, i) => !program.top ? `z${i + 1}` : i < program.top ? `upper ${i + 1}` : `lower ${i + 1 - program.top}`;
  const tells = ({spec: {about: {kl, spread}}}, i) => kl && kl[i] !== undefined ? ` · ${kl[i].toFixed(2)} nats` : spread && spread[i] !== undefined ? ` · variance ${spread[i].toFixed(2)}` : "";
  const sortedBy = ({spec: {about: {kl, spread}}}) => kl ? "by their KL on test images" : spread ? "by the variance of the mean code over test images" : "";

  const drawsOf = program => { const random = randomOf(2); return Array.from({length: 300}, () => program.drawLatent(random)); };
  const reachOf = (program, axes, least) => {     // how far a prior goes that is neither N(0, I) nor has it on top
    if (!["mixture", "vamp", "flow"].includes(program.spec.prior.name)) return least;
    const far = drawsOf(program).flatMap(z => axes.map(i => Math.abs(z[i]))).sort((a, b) => a - b);
    return Math.max(least, Math.ceil(far[Math.floor(.95 * far.length)]));
  };

  /* The score of an image, as lesson 10 has it, with the noise of the page. */
  const scoreOf = (program, detector, x, c) => {
    const q = program.encode(x, c), D = program.width;
    if (detector.method === "reconstruction_error") {
      const made = program.decode(q.mu, c).mean;
      return made.reduce((s, v, i) => s + (x[i] - v) ** 2, 0);
    }
    const noise = floats(detector.noise), K = noise.length / D, weights = [];
    let total = 0;
    for (let k = 0; k < K; k++) {
      const z = program.draw(q, noise.slice(k * D, k * D + D)), cost = program.cost(program.decode(z, c), x);
      total += (cost + (detector.method === "neg_elbo" ? program.kl(q, z, c) : 0)) / K;
      weights.push(program.logPrior(z, c) - program.logQ(q, z) - cost);
    }
    return detector.method === "neg_log_px" ? Math.log(K) - logSumExp(weights) : total;
  };

  const termsTable = () => {
    const cell = () => el("td", {}, "–"), parts = [cell(), cell(), cell()], heads = ["reconstruction", "KL", "−ELBO"];
    const body = el("tbody", {}, ...heads.map((h, i) => el("tr", {}, el("th", {scope: "row"}, h), parts[i])));
    return {element: el("table", {}, el("caption", {class: "live-soft"}, "nats"), body), set: t => [t.reconstruction, t.kl, t.negElbo].forEach((v, i) => { parts[i].textContent = round(v, 1); })};
  };

  const exampleButtons = (images, shape, labels, classes, take) => {
    const all = images.map((x, i) => {
      const name = labels && labels[i] >= 0 ? classes[labels[i]] || labels[i] : "";
      return button(still(shape, x, 40), () => { all.forEach((b, k) => b.setAttribute("aria-pressed", k === i)); take(x, labels ? labels[i] : null); }, {class: "live-take", "aria-label": `Take example ${i + 1}${name === "" ? "" : `: ${name}`}`, "aria-pressed": "false"});
    });
    return el("div", {class: "live-strip", role: "group", "aria-label": "examples"}, ...all);
  };

  const histogram = ({groups, threshold, label}) => { // groups: [{scores, name, colour}]
    const canvas = el("canvas", {class: "live-picture", width: 640, height: 260, role: "img", "aria-label": label, style: "width:420px;max-width:100%;background:none"});
    const all = groups.flatMap(g => [...g.scores]).sort((a, b) => a - b), low = all[0], high = all[all.length - 1], bins = 40;
    const place = v => 20 + (v - low) / (high - low || 1) * 600;
    const state = {threshold, mark: null};
    const redraw = () => {
      const g = canvas.getContext("2d"), tone = shades(canvas), most = Math.max(...groups.flatMap(group => tally(group.scores).map(n => n / group.scores.length)));
      g.fillStyle = tone.ground; g.fillRect(0, 0, 640, 260);
      groups.forEach(group => {
        g.globalAlpha = .55; g.fillStyle = group.colour;
        tally(group.scores).forEach((n, i) => { const h = n / group.scores.length / most * 210; g.fillRect(20 + i * 600 / bins, 235 - h, 600 / bins - 1, h); });
        g.globalAlpha = 1;
      });
      const line = (v, colour, words, y) => {
        const x = Math.min(632, Math.max(8, place(v)));
        g.strokeStyle = colour; g.lineWidth = 4; g.beginPath(); g.moveTo(x, 10); g.lineTo(x, 238); g.stroke();
        g.fillStyle = tone.ink; g.font = "22px system-ui"; g.textAlign = x > 320 ? "right" : "left"; g.fillText(words, x + (x > 320 ? -8 : 8), y);
      };
      line(state.threshold, tone.ink, "threshold", 28);
      if (state.mark !== null) line(state.mark, tone.accent, "your image", 58);
    };
    const tally = scores => { const n = new Array(bins).fill(0); for (const s of scores) n[Math.min(bins - 1, Math.floor((s - low) / (high - low || 1) * bins))]++; return n; };
    watchShades(redraw);
    return {element: canvas, low, high, set: more => { Object.assign(state, more); redraw(); }};
  };
  const share = (scores, above) => { let n = 0; for (const s of scores) if (s > above) n++; return n / scores.length; };

  const aboutLine = program => {
    const a = program.spec.about || {}, words = [a.name || program.spec.model, a.trained && `trained ${a.trained}`, a.neg_elbo !== undefined && `${a.measure || "−ELBO"} ${round(a.neg_elbo, 1)} nats on ${a.test || "test images"}`, program.spec.kind && `weights as ${program.spec.kind}`];
    return el("details", {}, el("summary", {}, "About this model"), el("p", {class: "live-soft"}, words.filter(Boolean).join("; ") + "."));
  };

  /* Samples from the prior, with a temperature. */
  const sampler = (program, condition, app) => {
    const shape = program.shape, canvases = Array.from({length: 12}, () => still(shape, null, 64)), strip = el("div", {class: "live-strip", role: "img", "aria-label": "Twelve samples"}, ...canvases);
    let seed = 1, temperature = 1;
    const draw = () => {
      const random = randomOf(seed);
      app.samples = canvases.map(canvas => {
        const c = condition(), z = program.codebook ? program.drawCodes(random, temperature) : program.drawLatent(random, c, temperature), mean = program.decode(z, c).mean;
        show(canvas, program.whole(mean, c), shape);
        return {z, mean};
      });
    };
    app.drawSamples = draw;
    draw();
    return el("div", {}, strip, el("p", {}, button("New samples", () => { seed++; draw(); })), slider("temperature", 1, 0, 1.5, .05, v => { temperature = v; draw(); }).element);
  };

  /* The page that `vae_course explore` writes. */
  const explore = (host, page) => {
    styled();
    host.classList.add("live-app");
    const program = new Program(page.program), spec = program.spec, shape = program.shape, D = program.width, classes = page.classes || [];
    const examples = page.examples || {}, images = imagesOf(examples, shape), labels = examples.labels || null, codes = floats(examples.codes);
    const order = orderOf(program), axes = axesOf(program), speak = speaker(), top = program.top, app = {program, page, z: program.settled(new Float64Array(D)), x: null};
    host.live = app;
    const part = spec.condition && spec.condition.kind === "part", noise = D ? noiseFor(program) : null;
    const asked = conditionControls(program, classes, "decode as", () => { update(); strips(); });
    const strips = () => { if (app.drawSamples) app.drawSamples(); if (app.interpolate) app.interpolate(); };
    const shown = conditionControls(program, classes, "your image shows", () => app.x && yours(app.x));
    const condition = () => part ? app.x || images[0] || new Float64Array(count(shape)) : asked.value();
    const own = x => part ? x : shown.value();
    const decoded = picture(shape, "decoded at the point", 200), seen = picture(shape, "what the model sees", 112), again = picture(shape, "its reconstruction", 112), table = termsTable();
    const sliders = {};
    let map = null, chart = null;
    const spot = i => codes && [codes[i * D + axes[0]], codes[i * D + axes[1]]];
    const nearest = () => {
      if (!codes) return "";
      let best = -1, least = Infinity;
      for (let i = 0; i < codes.length / D; i++) { let s = 0; for (let d = 0; d < D; d++) s += (codes[i * D + d] - app.z[d]) ** 2; if (s < least) { least = s; best = i; } }
      const k = labels ? labels[best] : -1;
      return k >= 0 ? `; nearest example: ${classes[k] || k}` : "";
    };
    const update = () => {
      if (!D) return;
      const made = program.decode(app.z, condition());
      app.mean = made.mean; app.c = condition();
      decoded.set(program.whole(made.mean, app.c));
      for (const [i, s] of Object.entries(sliders)) s.set(app.z[i]);
      if (map) map.set(app.z[axes[0]], app.z[axes[1]]);
      const first = top ? order.slice(0, Math.min(4, top)) : order.slice(0, 4);
      speak.say(`${top ? "upper layer" : "z"} ${first.map(i => round(app.z[i])).join(", ")}${(top || D) > 4 ? ", …" : ""}${nearest()}`);
    };
    const set = (i, v) => { app.z[i] = v; if (i < top) app.z = program.settled(app.z); };
    const moved = z => { app.z = Float64Array.from(z); update(); };
    const yours = x => {
      app.x = x;
      if (program.classifier) { app.labels = program.classify(x); const k = argmax(app.labels); if (shown.set) { shown.set(k); asked.set(k); } }
      app.cx = own(x);
      app.terms = program.terms(x, app.cx, noise);
      app.q = app.terms.q || program.encode(x, app.cx);
      app.cloud = D ? cloudOf(program, app.q) : null;
      app.reconstruction = program.reconstruct(x, app.cx);
      seen.set(x); again.set(program.whole(app.reconstruction, app.cx)); table.set(app.terms);
      if (page.detector) {
        app.score = scoreOf(program, page.detector, x, app.cx);
        chart.set({mark: app.score});
        verdict.textContent = `Score ${round(app.score, 2)}: ${app.score > page.detector.threshold ? "above the threshold, an alarm" : "at most the threshold, no alarm"}; higher than ${Math.round(100 * (1 - share(page.detector.scores, app.score)))} % of the held-out images.`;
      }
      if (D) app.z = Float64Array.from(app.q.mu);
      update();
      if (spec.condition) strips();
      const t = app.terms;
      speak.say(`Your image: reconstruction ${round(t.reconstruction, 1)}, KL ${round(t.kl, 1)}, −ELBO ${round(t.negElbo, 1)} nats${program.classifier ? `; the model reads it as ${classes[app.cx] || app.cx}` : ""}`, true);
    };
    app.take = yours; app.move = moved;
    const ink = (x, size) => { if (x.some(v => v > .05)) app.take(centred(x, size, size, shape[1], shape[2])); };
    const file = async f => {
      try {
        let x = fitted(await readFile(f), shape, page.resize);
        if (invert.checked) { x = x.map(v => 1 - v); x = centred(x, shape[1], shape[2], shape[1], shape[2]); }
        app.take(x);
      } catch (e) { speak.say("This file holds no image that the browser can read.", true); }
    };
    const invert = el("input", {type: "checkbox", id: named()}), verdict = el("p", {"aria-live": "polite"}, "Give an image above to see its score.");
    const board = shape[0] === 1 ? sketch(ink) : null;

    if (D) {
      const reach = codes ? Math.max(3, ...Array.from({length: codes.length / D}, (_, i) => spot(i).map(Math.abs)).flat().sort((a, b) => a - b).slice(0, Math.ceil(1.96 * codes.length / D)).slice(-1)) : 3;
      map = pad({label: "Map of codes: drag the point, or press the arrow keys", span: Math.ceil(reach * 2) / 2, change: ([a, b]) => { set(axes[1], b); set(axes[0], a); update(); },
        ground: (g, px, py) => { if (codes) for (let i = 0; i < codes.length / D; i++) { g.globalAlpha = .75; g.fillStyle = colours[labels && labels[i] >= 0 ? labels[i] % 10 : 0]; g.beginPath(); g.arc(px(spot(i)), py(spot(i)), 5, 0, 7); g.fill(); g.globalAlpha = 1; } },
        over: (g, px, py, tone) => { if (app.q && app.q.mu) drawQ(g, px, py, program, app.q, axes, tone.ink, app.cloud); }});
      const seenLabels = labels ? [...new Set(labels)].filter(k => k >= 0).sort((a, b) => a - b).slice(0, 20) : [];
      const key = seenLabels.length ? el("ul", {class: "live-key"}, ...seenLabels.map(k => el("li", {}, el("i", {style: `background:${colours[k % 10]}`}), classes[k] || String(k)))) : null;
      const upper = top ? order.filter(i => i < top).slice(0, 8) : [], lower = top ? order.filter(i => i >= top).slice(0, 8) : order.slice(0, 12);
      const scaled = program.priorOf(condition()), some = scaled ? [] : [app.z, ...codes ? Array.from({length: codes.length / D}, (_, n) => codes.subarray(n * D, n * D + D)) : drawsOf(program)];
      const wide = i => Math.max(4, ...some.map(z => Math.ceil(Math.abs(z[i]))));   // without N(0, 1) as its prior a latent has a scale of its own
      for (const i of [...upper, ...lower]) { const most = wide(i); sliders[i] = slider(`${nameOf(program, i)}${tells(program, i)}`, 0, -most, most, .05, v => { set(i, v); update(); }); }
      host.append(el("h2", {}, "The map"),
        el("p", {}, codes && (top || D) > 1 ? `Each dot is the code of a test image, on the latents ${axes[0] + 1} and ${axes[1] + 1}${top ? " of the upper layer" : ""}, which ${spec.about.kl ? "tell" : "vary"} most. ` : "", "Drag the point, or reach it with the Tab key and press the arrows. ",
          top ? "The layer below follows: it stands at the mean of p(lower|upper), until one of its own sliders is moved. " : "", (top || D) > 1 ? `q(z|x) of your image is shown as ${qWords(program)}.` : ""),
        el("div", {class: "live-row"}, el("div", {class: "live-col"}, (top || D) > 1 ? map.element : null, key), el("div", {class: "live-col"}, decoded.element, asked.element),
          el("div", {class: "live-col"}, el("p", {class: "live-soft"}, `${top ? "The upper layer" : "Latents"} ${sortedBy(program)}`.trim()), ...upper.map(i => sliders[i].element), top ? el("p", {class: "live-soft"}, "The layer below") : null, ...lower.map(i => sliders[i].element), button(top ? "Upper layer to 0" : "All to 0", () => moved(program.settled(new Float64Array(D)))))), speak.element);
    }
    host.append(el("h2", {}, "Your image"),
      el("p", {}, board ? `Draw, or drop an image. A drawing is scaled to 20 of 28 pixels and put so that its center of mass is in the middle, as MNIST was.` : "Drop an image; it is brought to the size that the model takes."),
      el("div", {class: "live-row"}, board ? el("figure", {class: "live-col"}, board.element, el("figcaption", {}, "draw here"), el("p", {}, button("Clear", () => board.clear()))) : null,
        el("div", {class: "live-col"}, dropZone(file), shape[0] === 1 ? el("p", {}, invert, el("label", {for: invert.id}, " dark on light: invert and center it")) : null, program.classifier ? null : shown.element),
        seen.element, again.element, table.element));
    if (!D) host.append(speak.element);
    if (images.length) host.append(el("p", {class: "live-soft"}, "Or take one of these:"), exampleButtons(images.slice(0, 24), shape, labels, classes, (x, k) => { if (k !== null && k >= 0 && shown.set && spec.condition.kind === "labels") { shown.set(k); asked.set(k); } app.take(x); }));
    if (program.codebook && spec.encoder) host.append(el("h2", {}, "Its codes"), painter(program, app));
    if (spec.prior) host.append(el("h2", {}, "Samples"), el("p", {}, "New images: codes from the prior, decoded."), sampler(program, condition, app));
    if (D) {
      const ends = [0, 1].map(i => codes && codes.length >= 2 * D ? Float64Array.from(codes.subarray(i * D, i * D + D)) : program.drawLatent(randomOf(7 + i), condition())), strip = Array.from({length: 9}, () => still(shape, null, 56));
      const between = () => { app.between = strip.map((canvas, i) => { const t = i / 8, z = ends[0].map((v, d) => (1 - t) * v + t * ends[1][d]), mean = program.decode(z, condition()).mean; show(canvas, program.whole(mean, condition()), shape); return {z, mean}; }); };
      app.interpolate = between;
      between();
      host.append(el("h2", {}, "From one code to another"), el("p", {}, "Move the point or give an image, and make it one of the ends."),
        el("div", {class: "live-strip", role: "img", "aria-label": "Nine images between two codes"}, ...strip),
        el("p", {}, button("The point is the left end", () => { ends[0] = Float64Array.from(app.z); between(); }), " ", button("The point is the right end", () => { ends[1] = Float64Array.from(app.z); between(); })));
    }
    if (page.detector) {
      chart = histogram({groups: [{scores: page.detector.scores, colour: colours[0]}], threshold: page.detector.threshold, label: `Scores of ${page.detector.scores.length} held-out normal images, and the threshold`});
      host.append(el("h2", {}, "Is it unusual?"), el("p", {}, `Scores (${page.detector.method.replaceAll("_", " ")}) of ${page.detector.scores.length} normal images that were not trained on. An alarm is a score above the threshold, which promises at most ${+(100 * page.detector.false_alarm).toPrecision(3)} % false alarms.`), chart.element, verdict);
    }
    host.append(el("p", {class: "live-soft"}, page.said || ""));
    if (D) { if (codes) moved(codes.subarray(0, D)); else update(); }
    if (!D && images.length) app.take(images[0]);
    return app;
  };

  /* Paint with the codes of a VQ-VAE: a grid of places, and a palette of codes. */
  const painter = (program, app) => {
    const [rows, columns] = program.spec.codes, K = program.spec.n_codes, shape = program.shape, [, H, W] = shape;
    const made = picture(shape, "decoded from the codes", 220), width = Math.ceil(Math.sqrt(K)), speak = speaker();
    const counts = program.spec.about.usage || [], order = Array.from({length: K}, (_, k) => k).sort((a, b) => (counts[b] || 0) - (counts[a] || 0));
    const swatches = order.map(k => {             // a place in the middle of an image of this code alone
      const mean = program.decode(new Int32Array(rows * columns).fill(k)).mean, h = Math.max(1, Math.round(H / rows)), w = Math.max(1, Math.round(W / columns));
      const y0 = Math.floor(rows / 2) * h, x0 = Math.floor(columns / 2) * w, x = new Float64Array(shape[0] * h * w);
      for (let c = 0; c < shape[0]; c++) for (let y = 0; y < h; y++) for (let k2 = 0; k2 < w; k2++) x[(c * h + y) * w + k2] = mean[(c * H + Math.min(H - 1, y0 + y)) * W + Math.min(W - 1, x0 + k2)];
      return still([shape[0], h, w], x, 40);
    });
    const rank = new Int32Array(K);
    order.forEach((k, i) => { rank[k] = i; });
    app.brush = order[0];
    app.codes = new Int32Array(rows * columns).fill(order[0]);
    const swatch = (g, k, x, y, s) => { g.imageSmoothingEnabled = false; g.drawImage(swatches[rank[k]], x, y, s, s); };
    const update = () => { app.mean = program.decode(app.codes).mean; made.set(app.mean); };
    const grid = cells({label: `Codes of the image, ${rows} rows of ${columns}: arrow keys move, Enter paints`, rows, columns,
      draw: (g, r, c, x, y, s) => swatch(g, app.codes[r * columns + c], x, y, s),
      press: (r, c, pressed) => { if (pressed) { app.codes[r * columns + c] = app.brush; update(); } speak.say(`row ${r + 1}, column ${c + 1}: code ${app.codes[r * columns + c]}`); }});
    const palette = cells({label: `Palette of ${K} codes, the most used first: arrow keys choose`, rows: Math.ceil(K / width), columns: width,
      draw: (g, r, c, x, y, s) => { if (r * width + c < K) swatch(g, order[r * width + c], x, y, s); },
      press: (r, c) => { const i = Math.min(K - 1, r * width + c); app.brush = order[i]; speak.say(`brush: code ${app.brush}`); }});
    app.setCodes = codes => { app.codes = Int32Array.from(codes); update(); grid.redraw(); };
    const before = app.take;
    app.take = x => { if (before) before(x); app.setCodes(program.codes(x)); };
    update();
    const column = (words, e) => el("figure", {class: "live-col"}, e, el("figcaption", {}, words));
    return el("div", {}, el("div", {class: "live-row"}, column("the codes, painted", grid.element), column("the palette", palette.element), made.element), speak.element);
  };

  /* What a drawing or an example gives: shared by the parts that take one. */
  const taker = (program, take) => {
    const shape = program.shape, about = program.spec.about, images = imagesOf(about.examples, shape), labels = about.examples && about.examples.labels;
    const board = sketch((x, size) => { if (x.some(v => v > .05)) take(centred(x, size, size, shape[1], shape[2]), null); });
    const classes = about.classes || [];
    return {images, labels, element: el("div", {class: "live-col", style: "width:300px"}, el("figure", {}, board.element, el("figcaption", {}, "draw here, or take one of those below")), el("p", {}, button("Clear", () => board.clear())), images.length ? exampleButtons(images, shape, labels, classes, take) : null)};
  };

  const parts = {
    plane(host, [program], app) {
      const shape = program.shape, made = picture(shape, "decoded at the point", 200), speak = speaker(), span = program.spec.about.span || reachOf(program, axesOf(program), 3), grid = 13, [a, b] = axesOf(program), tiles = document.createElement("canvas");
      tiles.width = grid * shape[2]; tiles.height = grid * shape[1];
      app.z = program.settled(new Float64Array(program.width));
      const controls = conditionControls(program, [], "decode as", () => { manifold(); update(); });
      const manifold = () => {
        for (let r = 0; r < grid; r++) for (let c = 0; c < grid; c++) {
          const z = new Float64Array(program.width);
          z[b] = span - (r + .5) * 2 * span / grid; z[a] = (c + .5) * 2 * span / grid - span;
          const tile = tiles.getContext("2d").createImageData(shape[2], shape[1]);
          paint(tile.data, program.decode(program.settled(z), controls.value()).mean, shape);
          tiles.getContext("2d").putImageData(tile, c * shape[2], r * shape[1]);
        }
      };
      const update = () => { app.mean = program.decode(app.z, controls.value()).mean; made.set(app.mean); speak.say(`z ${round(app.z[a])}, ${round(app.z[b])}`); };
      manifold();
      const map = pad({label: "Plane of codes: drag the point, or press the arrow keys", span, change: ([x, y]) => { app.z[b] = y; app.z[a] = x; app.z = program.settled(app.z); update(); },
        ground: (g, px, py, tone, size) => g.drawImage(tiles, 0, 0, size, size), cross: false});
      host.append(el("p", {class: "live-soft"}, "Drag the point, or use the arrow keys (Shift: larger steps, Home: the middle, End: the right edge)."),
        el("div", {class: "live-row"}, map.element, el("div", {class: "live-col"}, made.element, controls.element)), speak.element);
      update();
    },

    traversals(host, [program], app) {
      const made = picture(program.shape, "decoded", 200), speak = speaker(), {top} = program, order = orderOf(program).slice(0, top || 10).slice(0, 10);   // of two layers the upper one
      app.z = program.settled(new Float64Array(program.width));
      const update = () => { app.mean = program.decode(app.z).mean; made.set(app.mean); speak.say(`z ${order.slice(0, 4).map(i => round(app.z[i])).join(", ")}`); };
      const rows = order.map(i => slider(`${nameOf(program, i)}${tells(program, i)}`, 0, -reachOf(program, [i], 3), reachOf(program, [i], 3), .05, v => { app.z[i] = v; app.z = program.settled(app.z); update(); }));
      host.append(el("div", {class: "live-row"}, made.element, el("div", {class: "live-col"}, ...rows.map(r => r.element), button("All to 0", () => { app.z = program.settled(new Float64Array(program.width)); rows.forEach(r => r.set(0)); update(); }))), speak.element);
      update();
    },

    draw(host, [program], app) {
      const shape = program.shape, seen = picture(shape, "what the model sees", 112), again = picture(shape, "its reconstruction", 112), table = termsTable(), speak = speaker(), axes = axesOf(program), noise = noiseFor(program), {name} = program.spec.prior, normal = ["normal", "learned", "layers"].includes(name), reach = reachOf(program, axes, 4), before = normal ? [] : drawsOf(program);
      const asked = conditionControls(program, [], "it shows", () => app.x && take(app.x, null));
      const take = (x, k) => {
        if (k !== null && asked.set) asked.set(k);
        app.x = x; app.terms = program.terms(x, asked.value(), noise); app.q = app.terms.q; app.reconstruction = program.reconstruct(x, asked.value());
        app.cloud = cloudOf(program, app.q);
        seen.set(x); again.set(app.reconstruction); table.set(app.terms); plane.redraw();
        speak.say(`${app.q.sigma ? "μ" : "code"} ${axes.map(i => round(app.q.mu[i])).join(", ")}${app.q.sigma ? `, σ ${axes.map(i => round(app.q.sigma[i])).join(", ")}` : ""}; reconstruction ${round(app.terms.reconstruction, 1)}, KL ${round(app.terms.kl, 1)} nats`);
      };
      const from = taker(program, take);
      const plane = {element: el("canvas", {class: "live-pad", width: 640, height: 640, role: "img", "aria-label": `q(z|x) as ${qWords(program)}, over the prior`, style: "cursor:default;touch-action:auto"}), redraw() {
        const g = plane.element.getContext("2d"), tone = shades(plane.element), px = v => (v[0] / reach + 1) * 320, py = v => (1 - v[1] / reach) * 320;
        g.fillStyle = tone.ground; g.fillRect(0, 0, 640, 640);
        if (normal) ellipse(g, px, py, [0, 0], [1, 1], tone.line);
        else for (const z of before) ring(g, px(axes.map(i => z[i])), py(axes.map(i => z[i])), tone.line);
        if (app.q) drawQ(g, px, py, program, app.q, axes, tone.accent, app.cloud);
      }};
      watchShades(plane.redraw);
      app.take = take;
      host.append(el("div", {class: "live-row"}, from.element, el("figure", {class: "live-col"}, plane.element, el("figcaption", {}, program.spec.posterior || program.top || !normal ? `q(z|x): ${qWords(program)}${program.top ? ", of the upper layer" : ""}; the prior in grey${normal ? "" : ": draws"}` : "q(z|x), and the prior in grey")), el("div", {class: "live-col"}, seen.element, again.element, asked.element, table.element)), speak.element);
      if (from.images.length) take(from.images[0], from.labels ? from.labels[0] : null);
    },

    /* Models that differ in their loss alone: what each makes of the same digits, and its terms for one of them. */
    reduction(host, programs, app) {
      const shape = programs[0].shape, about = programs.map(p => p.spec.about), words = about.map(a => a.reduction), taken = about.map(a => a.examples).find(Boolean), images = imagesOf(taken, shape), labels = taken && taken.labels, speak = speaker();
      const noise = programs.map(noiseFor), seen = picture(shape, "the image", 112), again = words.map(w => picture(shape, `by the ${w}`, 112));
      const chart = chartOf("Both terms of each model as a bar, in nats", 224, (g, tone, panel) => {
        const most = 100 * Math.ceil(Math.max(200, ...(app.terms || []).map(t => t.negElbo)) / 100), p = panel({box: [86, 12, 612, 154], x: [0, most], y: [0, words.length], xticks: span(0, most, 4), name: "nats", yticks: words.map((w, i) => [words.length - i - .5, w])});
        (app.terms || []).forEach((t, i) => [[0, t.reconstruction, tone.soft], [t.reconstruction, t.negElbo, tone.accent]].forEach(([from, to, colour]) => { g.fillStyle = colour; g.fillRect(p.px(from), p.py(words.length - i - .1), p.px(to) - p.px(from), p.py(0) - p.py(.45)); }));
        (app.terms || []).forEach((t, i) => p.words(`${round(t.reconstruction, 1)} + ${round(t.kl, 1)}`, most / 80, words.length - i - .88));
      });
      const take = x => {
        app.x = x;
        app.terms = programs.map((p, i) => p.terms(x, null, noise[i]));
        app.losses = app.terms.map((t, i) => t.reconstruction / (words[i] === "mean" ? count(shape) : 1) + t.kl);
        app.reconstructions = programs.map(p => p.reconstruct(x, null));
        seen.set(x); again.forEach((canvas, i) => canvas.set(app.reconstructions[i]));
        chart.redraw();
        speak.say(app.terms.map((t, i) => `${words[i]}: reconstruction ${round(t.reconstruction, 1)}, KL ${round(t.kl, 1)} nats, its own loss ${round(app.losses[i], words[i] === "mean" ? 3 : 1)}`).join("; "));
      };
      app.rows = programs.map(p => images.map(x => p.reconstruct(x, null)));
      const wide = x => { const canvas = still(shape, x); canvas.style.cssText = "width:100%;height:auto"; return canvas; }, label = text => el("div", {class: "live-soft", style: "grid-column:1/-1"}, text);
      const buttons = images.map((x, i) => button(wide(x), () => take(x), {"aria-label": `Take example ${i + 1}${labels ? `, ${labels[i]}` : ""}`, style: "padding:0;min-width:0"}));
      const board = sketch((ink, size) => { if (ink.some(v => v > .05)) take(centred(ink, size, size, shape[1], shape[2])); });
      app.take = take;
      if (images.length) host.append(el("div", {style: `display:grid;grid-template-columns:repeat(${images.length},minmax(0,1fr));gap:2px 4px;max-width:600px`}, label("take one of these, or draw"), ...buttons, ...words.flatMap((w, i) => [label(`reconstructed, trained with the ${w} over the pixels`), ...app.rows[i].map(wide)])));
      host.append(el("div", {class: "live-row", style: "margin-top:1rem"}, el("figure", {class: "live-col"}, board.element, el("figcaption", {}, "draw here"), el("p", {}, button("Clear", () => board.clear()))),
        el("div", {class: "live-col"}, el("div", {class: "live-row"}, seen.element, ...again.map(a => a.element)), chart.element, key(["reconstruction", "var(--soft)"], ["KL", "var(--accent)"]))), speak.element);
      if (images.length) take(images[0]);
    },

    class(host, [program], app) {
      const shape = program.shape, K = program.spec.condition.classes, seen = picture(shape, "what the model sees", 112), made = Array.from({length: K}, () => still(shape, null, 56)), speak = speaker(), classes = program.spec.about.classes || [];
      const shown = conditionControls(program, classes, "it shows", () => app.x && take(app.x, null));
      const take = (x, k) => {
        if (k !== null) shown.set(k);
        app.x = x; app.c = shown.value(); app.q = program.encode(x, app.c);
        app.rows = made.map((canvas, i) => { const mean = program.decode(app.q.mu, i).mean; show(canvas, mean, shape); return mean; });
        seen.set(x);
        speak.say(`The handwriting of this ${classes[app.c] || app.c}, in all ${K} classes`);
      };
      const from = taker(program, take);
      app.take = take;
      host.append(el("div", {class: "live-row"}, from.element, el("div", {class: "live-col"}, seen.element, shown.element, el("div", {class: "live-strip", role: "img", "aria-label": "The same handwriting in every class, 0 first"}, ...made))), speak.element);
      if (from.images.length) take(from.images[0], from.labels[0]);
    },

    /* A model that is told some quadrants: the reader gives these, draws of z give the others. */
    complete(host, [program], app) {
      const shape = program.shape, [C, H, W] = shape, D = program.width, N = 8, unseen = program.unseen, speak = speaker(), about = program.spec.about, classes = about.classes || [];
      if (!unseen) throw new Error("the part complete needs a model that is told a part of the image");
      const quarters = [[0, 0], [.5, 0], [0, .5], [.5, .5]], hidden = quarters.filter(([l, t]) => unseen[(t ? H - 1 : 0) * W + (l ? W - 1 : 0)] > 0), given = quarters.filter(q => !hidden.includes(q));
      const side = hidden.length !== 2 ? "" : hidden.every(q => q[1]) ? "lower" : hidden.every(q => !q[1]) ? "upper" : hidden.every(q => q[0]) ? "right" : hidden.every(q => !q[0]) ? "left" : "", rest = side ? `${side} half` : "unseen part";
      const images = imagesOf(about.examples, shape), labels = about.examples && about.examples.labels, made = Array.from({length: N}, () => still(shape, null, 84)), truth = picture(shape, "the whole example", 84), open = unseen.reduce((s, v) => s + v, 0);
      let seed = 1;
      const colour = x => C === 3 ? x : Float64Array.from({length: 3 * H * W}, (_, i) => x[i % (H * W)] * (unseen[i % (H * W)] ? 1 : [.5, .68, 1][Math.floor(i / H / W)]));   // what was given is blue
      const update = () => {
        const p = program.priorOf(app.given);
        app.z = Array.from({length: N}, (_, k) => p.mu.map((m, i) => m + p.sigma[i] * app.eps[k * D + i]));
        app.made = app.z.map(z => program.whole(program.decode(z, app.given).mean, app.given));
        made.forEach((canvas, k) => show(canvas, colour(app.made[k]), [3, H, W]));
        const mid = unseen.map((_, i) => mean(app.made.map(x => x[i]))), over = f => Math.sqrt(unseen.reduce((s, u, i) => s + u * f(i), 0) / open);
        app.spread = over(i => mean(app.made.map(x => (x[i] - mid[i]) ** 2)));
        app.off = app.whole ? over(i => (app.whole[i] - mid[i]) ** 2) : null;
        truth.element.style.visibility = app.whole ? "visible" : "hidden";
        if (app.whole) truth.set(app.whole);
        speak.say(`eight draws of the ${rest} differ by ${fine(app.spread)} a pixel${app.whole ? `; the example is off their mean by ${fine(app.off)}` : ""}`);
      };
      const draws = () => { app.eps = randomOf(seed).normals(N * D); }, seen = x => Float64Array.from(x, (v, i) => unseen[i] ? 0 : v);
      const take = x => { app.whole = x; app.given = seen(x); if (board) board.put(still(shape, app.given)); update(); };
      const nothing = () => {
        Object.assign(app, {whole: null, made: [], z: [], spread: null, off: null});
        made.forEach(canvas => show(canvas, new Float64Array(C * H * W), shape));
        truth.element.style.visibility = "hidden";
        speak.say(`nothing is drawn yet: draw all but the ${rest} of a digit`);
      };
      const board = C === 1 ? sketch((ink, size) => { app.whole = null; app.given = seen(resized(ink, size, size, H, W)); if (app.given.some(v => v > .05)) update(); else nothing(); }, given.map(q => [...q, .5, .5])) : null;
      if (board) board.element.setAttribute("aria-label", `Draw here with a pointer or a finger: all but the ${rest}`);
      const box = (l, t, w, h, more) => el("div", {"aria-hidden": "true", style: `position:absolute;pointer-events:none;left:${100 * l}%;top:${100 * t}%;width:${100 * w}%;height:${100 * h}%;${more}`});
      const drawing = board && el("figure", {}, el("div", {style: "position:relative;width:280px;max-width:100%"}, board.element, ...hidden.map(q => box(...q, .5, .5, "background:var(--field)")), box(1 / 7, 1 / 7, 5 / 7, 5 / 7, "border:2px dashed #8a8a94")), el("figcaption", {}, `draw a digit without its ${rest}, in the frame, or take one of those below`));
      app.take = take;
      draws();
      host.append(el("div", {class: "live-row"}, el("div", {class: "live-col", style: "width:300px"}, drawing, board ? el("p", {}, button("Clear", () => board.clear())) : null, images.length ? exampleButtons(images, shape, labels, classes, take) : null),
        el("div", {class: "live-col"}, el("figure", {}, el("div", {class: "live-strip", style: `width:${4 * 88}px;max-width:100%`, role: "img", "aria-label": "Eight completions"}, ...made), el("figcaption", {}, `blue as given; the ${rest} by the model`)),
          el("p", {}, button("Fresh draws", () => { seed++; draws(); if (app.made.length) update(); })), truth.element)), speak.element);
      if (images.length) take(images[Math.min(3, images.length - 1)]); else nothing();
    },

    codes(host, [program], app) {
      const grid = painter(program, app), from = taker(program, x => app.take(x));
      host.append(grid, from.element);
      if (from.images.length) app.take(from.images[0]);
    },

    threshold(host, [data], app) {
      const {normal, anomalous} = data, all = [...normal, ...anomalous], speak = speaker();
      const chart = histogram({groups: [{scores: normal, colour: colours[0]}, {scores: anomalous, colour: colours[1]}], threshold: data.threshold, label: "Scores of normal images and of anomalies"});
      const low = Math.min(...all), high = Math.max(...all);
      const update = v => {
        app.threshold = v; app.falseAlarms = share(normal, v); app.detections = share(anomalous, v);
        const t = .01 * app.detections, f = .99 * app.falseAlarms;
        app.precision = t + f ? t / (t + f) : NaN;
        chart.set({threshold: v});
        speak.say(`false alarms ${round(100 * app.falseAlarms, 1)} %, detected ${round(100 * app.detections, 1)} %; where 1 % are anomalies, ${isNaN(app.precision) ? "there is no alarm" : `${round(100 * app.precision, 0)} % of the alarms are true`}`);
      };
      host.append(chart.element, el("ul", {class: "live-key"}, ...[[data.names[0], 0], [data.names[1], 1]].map(([words, i]) => el("li", {}, el("i", {style: `background:${colours[i]}`}), words))), slider("threshold", data.threshold, low, high, (high - low) / 200, update).element, speak.element);
      update(data.threshold);
    },

    beta(host, programs, app) {
      const shape = programs[0].shape, taken = (programs.find(p => p.spec.about.examples) || programs[0]).spec.about.examples, images = imagesOf(taken, shape), labels = taken.labels || [], speak = speaker();
      const points = programs.map(p => p.spec.about), rates = points.map(p => p.rate), costs = points.map(p => p.distortion), D = programs[0].width, shown = Math.min(5, D), most = points.every(a => a.kl) ? "most KL" : "most variance of the mean code";
      const rows = Array.from({length: shown}, () => ({tiles: Array.from({length: 9}, () => still(shape, null, 40)), words: el("span")})), draws = Array.from({length: 8}, () => still(shape, null, 56)), noise = randomOf(1).normals(8 * D);
      Object.assign(app, {index: Math.min(1, programs.length - 1), example: 0, draws: []});
      const ticks = all => { const low = Math.min(...all), high = Math.max(...all), step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find(v => (high - low) / v <= 4) || 1000, found = []; for (let v = Math.ceil(low / step) * step; v <= high; v += step) found.push(v); return found; };
      const scale = (v, all, from, to) => from + (v - Math.min(...all)) / (Math.max(...all) - Math.min(...all) || 1) * (to - from), across = v => scale(v, rates, 110, 590), upward = v => scale(v, costs, 330, 60);
      const spots = points.map(p => [across(p.rate), upward(p.distortion)]);
      const chart = el("canvas", {class: "live-picture", width: 640, height: 420, role: "img", "aria-label": "Rate and distortion of each β; the buttons above choose one", style: "width:420px;max-width:100%;height:auto;background:none;cursor:pointer"});
      chart.addEventListener("click", event => {
        const box = chart.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * 640, y = (event.clientY - box.top) / box.height * 420, far = spots.map(([a, b]) => Math.hypot(a - x, b - y));
        choose(far.indexOf(Math.min(...far)));
      });
      const redraw = () => {
        const g = chart.getContext("2d"), tone = shades(chart);
        g.fillStyle = tone.ground; g.fillRect(0, 0, 640, 420);
        g.font = "22px system-ui"; g.fillStyle = tone.soft;
        g.textAlign = "center"; g.fillText("rate, KL in nats", 350, 412);
        for (const v of ticks(rates)) g.fillText(v, across(v), 378);
        g.save(); g.translate(22, 195); g.rotate(-Math.PI / 2); g.fillText("distortion in nats", 0, 0); g.restore();
        g.textAlign = "right";
        for (const v of ticks(costs)) g.fillText(v, 76, upward(v) + 8);
        g.textAlign = "center"; g.strokeStyle = tone.line; g.lineWidth = 3; g.beginPath();
        [...spots].sort((a, b) => a[0] - b[0]).forEach(s => g.lineTo(...s));
        g.stroke();
        spots.forEach((s, i) => { g.beginPath(); g.arc(...s, i === app.index ? 14 : 8, 0, 7); g.fillStyle = i === app.index ? tone.accent : tone.soft; g.fill(); g.fillStyle = tone.ink; g.fillText(`β ${points[i].beta}`, s[0], s[1] - 20); });
      };
      const update = () => {
        const program = programs[app.index], x = images[app.example], q = program.encode(x), order = orderOf(program), a = points[app.index], kl = a.kl || [];
        app.program = program; app.reconstructions = programs.map(p => p.reconstruct(x)); app.reconstruction = app.reconstructions[app.index];
        app.reconstructions.forEach((made, i) => show(again[i], made, shape));
        rows.forEach((row, r) => {
          const k = order[r];
          row.words.textContent = kl.length ? `${round(kl[k], 2)} nats` : tells(program, k).replace(" · ", "");
          row.tiles.forEach((canvas, i) => { const z = Float64Array.from(q.mu); z[k] = -3 + 6 * i / 8; show(canvas, program.decode(k < program.top ? program.settled(z) : z).mean, shape); });
        });
        app.draws = draws.map((canvas, i) => { const made = program.decode(program.spec.prior.name === "normal" ? noise.slice(i * D, i * D + D) : program.drawLatent(randomOf(i + 1))).mean; show(canvas, made, shape); return made; });
        buttons.forEach((b, i) => b.setAttribute("aria-pressed", i === app.index));
        about.replaceChildren(aboutLine(program));
        const active = kl.filter(v => v >= .1).length;
        note.textContent = `the ${["", "one latent", "two latents", "three latents", "four latents", "five latents"][shown]} with ${most}, moved from −3 to 3.` + (kl.length ? ` At this β ${active} of all ${D} hold 0.1 nats or more.` : "");
        given.set(x);
        const name = labels[app.example] >= 0 ? `the ${labels[app.example]} under ` : "";
        speak.say(`${name}β ${a.beta}; on average over test images: rate ${round(a.rate, 1)}, distortion ${round(a.distortion, 1)}, −ELBO ${round(a.rate + a.distortion, 1)} nats`);
        redraw();
      };
      const choose = i => { app.index = i; update(); };
      const about = el("div"), note = el("figcaption"), again = programs.map(() => still(shape, null, 64)), given = picture(shape, "the image", 64);
      const buttons = programs.map((p, i) => button("", () => choose(i), {class: "live-take", "aria-pressed": "false"}));
      buttons.forEach((b, i) => b.append(again[i], `β = ${points[i].beta}`));
      const examples = exampleButtons(images, shape, labels, [], x => { app.example = images.indexOf(x); update(); });
      examples.firstChild.setAttribute("aria-pressed", "true");
      watchShades(redraw);
      host.append(el("p", {class: "live-soft"}, "Take an image:"), examples, el("p", {class: "live-soft"}, "Its reconstruction under each β; choose one, here or in the chart:"), el("div", {class: "live-strip", style: "align-items:flex-start"}, given.element, el("div", {class: "live-strip", role: "group", "aria-label": "β"}, ...buttons)),
        el("figure", {style: "margin-bottom:.8rem"}, el("div", {class: "live-strip", role: "img", "aria-label": "Eight draws"}, ...draws), el("figcaption", {}, programs.every(p => p.spec.prior.name === "normal") ? "eight draws under the chosen β: z from N(0, I), the same z for each" : "eight draws under the chosen β: z from the prior of each, with the same noise")),
        el("div", {class: "live-row"}, el("div", {class: "live-col"}, chart, speak.element), el("div", {class: "live-col"},
          el("figure", {}, el("div", {class: "live-rows", role: "img", "aria-label": `A row for each of the ${shown} latents with ${most}, moved from −3 to 3`}, ...rows.flatMap(row => [...row.tiles, row.words])), note))), about);
      update();
    }
  };
  parts.ellipse = parts.draw;

  // ------------------------------------------------------------------ parts that need no model: formulas alone

  /* A chart: `draw` is given the canvas, the shades, and a way to make panels of it. */
  const chartOf = (label, height, draw) => {
    const canvas = el("canvas", {class: "live-picture", width: 640, height, role: "img", "aria-label": label, style: "width:420px;max-width:100%;background:none;image-rendering:auto"});
    const redraw = () => {
      const g = canvas.getContext("2d"), tone = shades(canvas);
      g.fillStyle = tone.ground; g.fillRect(0, 0, 640, height);
      draw(g, tone, more => panelOf(g, tone, more));
    };
    watchShades(redraw);
    return {element: canvas, redraw};
  };
  /* Axes in a box of a chart; ticks are numbers, or pairs of a number and its words. */
  const panelOf = (g, tone, {box: [l, t, r, b], x, y, xticks = [], yticks = [], name = ""}) => {
    const px = v => l + (v - x[0]) / (x[1] - x[0]) * (r - l), py = v => b - (v - y[0]) / (y[1] - y[0]) * (b - t), pair = v => Array.isArray(v) ? v : [v, String(v).replace("-", "−")];
    g.lineWidth = 2; g.strokeStyle = tone.line; g.strokeRect(l, t, r - l, b - t);
    g.font = "20px system-ui"; g.fillStyle = tone.soft;
    g.textAlign = "center"; xticks.map(pair).forEach(([v, words]) => g.fillText(words, px(v), b + 24)); g.fillText(name, (l + r) / 2, b + 50);
    g.textAlign = "right"; yticks.map(pair).forEach(([v, words]) => g.fillText(words, l - 8, py(v) + 7));
    const inside = paintIt => { g.save(); g.beginPath(); g.rect(l, t, r - l, b - t); g.clip(); paintIt(); g.restore(); };
    const trace = points => { g.beginPath(); points.forEach(([a, c]) => g.lineTo(px(a), py(c))); };
    return {px, py, line: (points, colour, width = 4, dash = []) => inside(() => { trace(points); g.strokeStyle = colour; g.lineWidth = width; g.setLineDash(dash); g.stroke(); }),
      area: (points, colour, base = y[0]) => inside(() => { trace([[points[0][0], base], ...points, [points[points.length - 1][0], base]]); g.fillStyle = colour; g.fill(); }),
      dot: (a, c, colour, size = 10) => inside(() => { g.beginPath(); g.arc(px(a), py(c), size, 0, 7); g.fillStyle = colour; g.fill(); }),
      words: (text, a, c, align = "left") => { g.fillStyle = tone.ink; g.textAlign = align; g.fillText(text, px(a), py(c)); }};
  };
  const span = (from, to, n) => Array.from({length: n + 1}, (_, i) => from + (to - from) * i / n);
  const mean = v => v.reduce((s, a) => s + a, 0) / v.length;
  const fine = v => round(v, 3);
  const key = (...rows) => el("ul", {class: "live-key", style: "max-width:420px"}, ...rows.map(([words, colour]) => el("li", {}, el("i", {style: `background:${colour}`}), words)));

  /* The world of lesson 14: its hundred points and where its eight centres start, in thousandths. */
  const humps = [-1689,-1401,-1377,-1283,-1280,-1277,-1273,-1240,-1227,-1218,-1171,-1163,-1158,-1152,-1141,-1138,-1077,-1066,-1013,-995,-971,-962,-958,-955,-951,-949,-943,-932,-919,-911,-902,-901,-895,-894,-875,-871,-859,-854,-844,-820,-817,-809,-768,-762,-757,-703,-691,-665,-627,-580,-579,-491,-466,446,480,541,559,565,572,621,692,716,744,773,782,798,820,855,859,873,874,878,881,900,916,938,948,984,997,999,1021,1036,1055,1060,1073,1085,1087,1090,1129,1140,1162,1162,1187,1193,1309,1317,1411,1446,1548,1659].map(v => v / 1000);
  const starts = [661, 267, 62, 621, -452, -166, -1523, 382].map(v => v / 1000);

  /* What a layer's machine does at best, in FLOP/s, and bytes/s of its memory. */
  const machines = [
    {name: "the CPU of this lesson, 2 cores", fp32: 169e9, bf16: 871e9, bandwidth: 13.4e9},
    {name: "NVIDIA H100 SXM, by its data sheet", fp32: 67e12, bf16: 989e12, bandwidth: 3.35e12}
  ];

  /* (prior is N(0, I)) what is seen of z, the value seen, and the deviation of its noise */
  const sights = [
    {name: "z₁ + z₂", of: (a, b) => a + b, x: 1.5, s: .3},
    {name: "z₂ + ½(z₁ + 1)²", of: (a, b) => b + (a + 1) ** 2 / 2, x: 1, s: .3},
    {name: "z₁² + z₂²", of: (a, b) => a * a + b * b, x: 2, s: .5}
  ];

  Object.assign(parts, {
    gaussian(host, _, app) {
      const speak = speaker(), xs = span(-5, 5, 500), wide = span(-22, 22, 4400), above = colours[0], below = colours[1], shares = [colours[5], colours[6]], fit = (v, most) => Math.min(most[1], Math.max(most[0], Math.round(20 * v) / 20)), ends = {mu: [-3, 3], logvar: [-3, 2]};
      const log = (z, m, v) => -((z - m) ** 2 / Math.exp(v) + v + LOG2PI) / 2, weight = z => Math.exp(log(z, app.mu, app.logvar)) * (log(z, app.mu, app.logvar) - log(z, 0, 0)), box = [60, 12, 628, 210], tall = [0, 2];
      const update = (mu, logvar) => {
        app.mu = fit(mu, ends.mu); app.logvar = fit(logvar, ends.logvar);
        app.parts = [app.mu ** 2 / 2, (Math.exp(app.logvar) - 1 - app.logvar) / 2]; app.kl = app.parts[0] + app.parts[1];
        const w = wide.map(weight);
        app.areas = [1, -1].map(way => .01 * w.reduce((s, v) => s + Math.max(0, way * v), 0));
        rows[0].set(app.mu); rows[1].set(app.logvar);
        chart.redraw();
        speak.say(`KL(q‖p) = ½ μ² + ½ (σ² − 1 − log σ²): ${fine(app.parts[0])} and ${fine(app.parts[1])}, together ${fine(app.kl)} nats; area above 0 ${fine(app.areas[0])}, below 0 ${fine(app.areas[1])}`);
      };
      const chart = chartOf("Above: p = N(0, 1) and q = N(μ, σ²). Drag the top of q: sideways for μ, up and down for σ; or press the arrow keys. In the middle: q times log q/p, above and below 0. Below: both parts of the KL.", 584, (g, tone, panel) => {
        const top = [1, 1.5, 2, 4, 8, 12].find(v => v >= Math.max(...xs.map(weight))), peak = Math.exp(log(app.mu, app.mu, app.logvar)), x = [-5, 5];
        const a = panel({box, x, y: tall, yticks: [0, 1, 2]}), b = panel({box: [60, 234, 628, 424], x, y: [-top / 4, top], xticks: [-4, -2, 0, 2, 4], yticks: [0, top / 2, top], name: "z"}), c = panel({box: [60, 496, 628, 526], x: [0, 7], y: [0, 1], xticks: span(0, 7, 7), name: "KL in nats"});
        a.area(xs.map(z => [z, Math.exp(log(z, 0, 0))]), tone.line);
        a.line(xs.map(z => [z, Math.exp(log(z, app.mu, app.logvar))]), tone.accent, 5);
        a.dot(app.mu, peak, tone.accent, 14); a.dot(app.mu, peak, tone.ground, 6);
        a.words("p", -1.9, .22); a.words("q", app.mu + (app.mu > 2.5 ? -.6 : .4), Math.min(1.8, peak + .06));
        b.area(xs.map(z => [z, Math.max(0, weight(z))]), above, 0); b.area(xs.map(z => [z, Math.min(0, weight(z))]), below, 0);
        b.line([[-5, 0], [5, 0]], tone.soft, 2); b.words("q log(q/p)", -4.8, .8 * top);
        [[0, app.parts[0]], [app.parts[0], app.kl]].forEach(([from, to], i) => { g.fillStyle = shares[i]; g.fillRect(c.px(from), 498, c.px(to) - c.px(from), 26); });
      });
      const rows = ["mu", "logvar"].map((name, i) => slider(["μ", "log σ²"][i], 0, ...ends[name], .05, v => i ? update(app.mu, v) : update(v, app.logvar))), canvas = chart.element;
      const place = event => { const r = canvas.getBoundingClientRect(); return [(event.clientX - r.left) / r.width * 640, (event.clientY - r.top) / r.height * 584]; }, within = event => place(event)[1] < box[3] + 10;
      const follow = event => {
        const [x, y] = place(event), high = (box[3] - y) / (box[3] - box[1]) * tall[1];
        update((x - box[0]) / (box[2] - box[0]) * 10 - 5, high > 0 ? -2 * Math.log(high) - LOG2PI : ends.logvar[1]);
      };
      for (const [k, v] of Object.entries({role: "application", "aria-roledescription": "density", tabindex: 0})) canvas.setAttribute(k, v);
      canvas.style.cursor = "crosshair";
      canvas.addEventListener("touchstart", event => { if (within(event.touches[0])) event.preventDefault(); }, {passive: false});   // the rest of it scrolls the page
      let held = false;                           // a finger captures whatever it touches
      canvas.addEventListener("pointerdown", event => { if (!within(event)) return; held = true; canvas.setPointerCapture(event.pointerId); canvas.focus({preventScroll: true}); follow(event); event.preventDefault(); });
      canvas.addEventListener("pointermove", event => { if (held) follow(event); });
      for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = false; });
      canvas.addEventListener("keydown", event => {
        const way = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key], step = event.shiftKey ? .5 : .1;
        if (event.key === "Home") update(0, 0);
        else if (way) update(app.mu + way[0] * step, app.logvar + way[1] * step);
        else return;
        event.preventDefault();
      });
      Object.assign(app, {mu: 1, logvar: -1.4});
      host.append(canvas, key(["above 0", above], ["below 0", below], ["½ μ²", shares[0]], ["½ (σ² − 1 − log σ²)", shares[1]]), ...rows.map(row => row.element), speak.element);
      update(1, -1.4);
    },

    noise(host, _, app) {
      const N = 20, places = span(-2, 3, 50), speak = speaker(), target = 1;
      let seed = 1;
      Object.assign(app, {mu: -1, logvar: 0, fresh: false, eps: randomOf(seed).normals(N)});
      const sigma = () => Math.exp(app.logvar / 2), draws = () => randomOf(++seed).normals(N), loss = (mu, eps) => mean(eps.map(e => (mu + sigma() * e - target) ** 2));
      const again = () => { app.curve = places.map(m => loss(m, app.fresh ? draws() : app.eps)); };
      const update = (moved, whole) => {
        if (moved && app.fresh) app.eps = draws();
        if (whole) again();
        const s = sigma();
        app.z = app.eps.map(e => app.mu + s * e);
        app.loss = loss(app.mu, app.eps); app.exact = (app.mu - target) ** 2 + s * s;
        app.slope = [mean(app.z.map(z => 2 * (z - target))), mean(app.z.map((z, i) => (z - target) * s * app.eps[i]))];
        app.exactSlope = [2 * (app.mu - target), s * s];
        app.curve[Math.round((app.mu + 2) * 10)] = app.loss;
        chart.redraw();
        speak.say(`loss from the draws ${fine(app.loss)}, exact ${fine(app.exact)}; slope for μ from the draws ${fine(app.slope[0])}, exact ${fine(app.exactSlope[0])}; for log σ² from the draws ${fine(app.slope[1])}, exact ${fine(app.exactSlope[1])}`);
      };
      const chart = chartOf("Above: the twenty codes, each with an arrow down its slope. Below: the loss against μ, from the draws and exact.", 440, (g, tone, panel) => {
        const x = [-5, 6], above = panel({box: [60, 12, 628, 130], x, y: [0, 1]}), below = panel({box: [60, 150, 628, 382], x, y: [0, 14], xticks: [-4, -2, 0, 2, 4], yticks: [0, 5, 10], name: "z above, μ below"});
        [above, below].forEach(p => p.line([[target, 0], [target, 14]], tone.line, 3, [8, 6]));
        app.z.forEach((z, i) => {
          const y = .08 + .84 * i / (N - 1);
          above.line([[z, y], [z - .3 * (z - target), y]], tone.soft, 3);
          above.dot(z, y, tone.accent, 7);
        });
        below.line(span(-2, 3, 50).map(m => [m, (m - target) ** 2 + sigma() ** 2]), tone.soft, 3, [10, 8]);
        below.line(places.map((m, i) => [m, app.curve[i]]), tone.accent, 4);
        below.line([-1.2, 1.2].map(d => [app.mu + d, app.loss + d * app.slope[0]]), tone.ink, 3);
        below.dot(app.mu, app.loss, tone.ink, 9);
      });
      const each = button("Fresh noise at each move", () => { app.fresh = !app.fresh; each.setAttribute("aria-pressed", app.fresh); update(false, true); }, {"aria-pressed": "false"});
      again();
      host.append(chart.element, key(["from twenty draws", "var(--accent)"], ["exact", "var(--soft)"]), slider("μ", app.mu, -2, 3, .1, v => { app.mu = v; update(true); }).element, slider("log σ²", 0, -4, 1, .1, v => { app.logvar = v; update(true, true); }).element,
        el("p", {class: "live-strip"}, button("Fresh noise", () => { app.eps = draws(); update(false, true); }), each), speak.element);
      update();
    },

    reliability(host, _, app) {
      const speak = speaker(), within = u => erf(u / Math.SQRT2), cost = s => Math.log(s) + LOG2PI / 2 + 1 / (2 * s * s), us = [...span(0, 4, 80), 9];
      const update = v => {
        const s = app.sigma = 2 ** v;
        app.error = Math.abs(2 / Math.PI * Math.atan(s) - .5);     // the area between curve and diagonal
        app.nll = cost(s); app.coverage = [.6744897502, 1.644853627].map(u => within(u * s));
        chart.redraw();
        speak.say(`σ ${fine(s)}: the 50 % interval holds ${round(100 * app.coverage[0], 1)} % of the values, the 90 % interval ${round(100 * app.coverage[1], 1)} %; calibration error ${fine(app.error)}; −log p ${fine(app.nll)} nats a number`);
      };
      const chart = chartOf("Left: share of values inside an interval against the share promised; right: −log p against σ, least at σ = 1", 330, (g, tone, panel) => {
        const left = panel({box: [62, 16, 316, 270], x: [0, 1], y: [0, 1], xticks: [0, .5, 1], yticks: [0, .5, 1], name: "promised → inside"});
        const right = panel({box: [382, 16, 628, 270], x: [-2, 2], y: [1, 4], xticks: [[-2, "¼"], [-1, "½"], 0, 1, 2].map(v => Array.isArray(v) ? v : [v, String(2 ** v)]), yticks: [1, 2, 3, 4], name: "σ → −log p, nats"});
        g.globalAlpha = .25;
        g.beginPath(); us.forEach(u => g.lineTo(left.px(within(u)), left.py(within(u * app.sigma)))); g.closePath(); g.fillStyle = tone.accent; g.fill();
        g.globalAlpha = 1;
        left.line([[0, 0], [1, 1]], tone.soft, 3, [10, 8]);
        left.line(us.map(u => [within(u), within(u * app.sigma)]), tone.accent, 5);
        left.dot(.9, app.coverage[1], tone.ink, 8);
        right.line(span(-2, 2, 80).map(v => [v, cost(2 ** v)]), tone.soft, 4);
        right.line([[0, 1], [0, cost(1)]], tone.line, 3, [8, 6]);
        right.dot(Math.log2(app.sigma), Math.min(4, app.nll), tone.accent, 11);
      });
      host.append(chart.element, slider("σ of p(x|z)", 1, -2, 2, .1, update, v => round(2 ** v)).element, speak.element);
      update(1);
    },

    blur(host, _, app) {
      const speak = speaker(), N = humps.length, K = starts.length, line = span(-2.5, 2.5, 250), truth = v => [-1, 1].reduce((s, m) => s + Math.exp(-(((v - m) / .25) ** 2) / 2) / .5 / Math.sqrt(2 * Math.PI), 0);
      /* As in the lesson: three hundred times, q by Bayes' rule, then each centre as the mean of the points weighted by q. */
      const learn = (s, free) => {
        let f = Float64Array.from(starts);
        for (let step = 0; step < 300; step++) {
          const top = new Float64Array(K), weight = new Float64Array(K), square = new Float64Array(K), q = new Float64Array(K), before = f;
          for (let i = 0; i < N; i++) {
            const x = humps[i];
            let near = Infinity, total = 0;
            for (let k = 0; k < K; k++) near = Math.min(near, (x - f[k]) ** 2);
            for (let k = 0; k < K; k++) total += q[k] = Math.exp((near - (x - f[k]) ** 2) / (2 * s * s));
            for (let k = 0; k < K; k++) { const share = q[k] / total; weight[k] += share; top[k] += share * x; square[k] += share * x * x; }
          }
          f = top.map((v, k) => v / Math.max(weight[k], 1e-6));
          if (free) s = Math.sqrt(f.reduce((sum, m, k) => sum + square[k] - 2 * m * top[k] + m * m * weight[k], 0) / N);
          else if (f.every((v, k) => Math.abs(v - before[k]) < 1e-9)) break;
        }
        return [f, s];
      };
      const logP = (f, s, x) => {
        let near = Infinity, total = 0;
        for (let k = 0; k < K; k++) near = Math.min(near, (x - f[k]) ** 2);
        for (let k = 0; k < K; k++) total += Math.exp((near - (x - f[k]) ** 2) / (2 * s * s));
        return Math.log(total / K / s) - near / (2 * s * s) - LOG2PI / 2;
      };
      const xs = span(-4, 4, 3200), density = xs.map(truth), fresh = (f, s) => -.0025 * xs.reduce((sum, x, i) => sum + density[i] * logP(f, s, x), 0);   // the mean over the truth
      const places = span(-5.5, 1, 65), costs = places.map(v => { const [f] = learn(2 ** v); return fresh(f, 2 ** v); }), least = costs.indexOf(Math.min(...costs));
      app.points = humps; app.least = costs[least]; app.leastAt = 2 ** places[least];
      const show = (f, s) => {
        Object.assign(app, {centres: f, sigma: s, nll: fresh(f, s), nllSeen: -mean(humps.map(x => logP(f, s, x)))});
        const sorted = [...f].sort((a, b) => a - b);
        app.places = sorted.filter((v, i) => !i || v - sorted[i - 1] > .05).length;
        chart.redraw();
        speak.say(`σ ${fine(s)}: eight centres in ${app.places} place${app.places > 1 ? "s" : ""}; −log p ${fine(app.nll)} nats on new data, ${fine(app.nllSeen)} on the points seen; least along the curve ${fine(app.least)}, at σ ${fine(app.leastAt)}`);
      };
      const chart = chartOf("Above: the two true humps, the density of the model, its eight centres and the points seen. Below: −log p on new data against σ, its least value marked.", 520, (g, tone, panel) => {
        const above = panel({box: [60, 12, 628, 250], x: [-2.5, 2.5], y: [0, 1.8], xticks: [-2, -1, 0, 1, 2], name: "x"}), below = panel({box: [60, 322, 628, 464], x: [-5.5, 1], y: [.5, 3], xticks: [[-5, ".03"], [-3, "⅛"], [-2, "¼"], [-1, "½"], [0, "1"], [1, "2"]], yticks: [1, 2, 3], name: "σ → −log p on new data, nats"});
        above.area(line.map(v => [v, truth(v)]), tone.line);
        humps.forEach(x => above.line([[x, 0], [x, .07]], tone.soft, 2));
        above.line(span(-2.5, 2.5, 1000).map(v => [v, Math.exp(logP(app.centres, app.sigma, v))]), tone.accent, 4);
        app.centres.forEach(m => above.line([[m, 0], [m, .3]], tone.ink, 5));
        below.line(places.map((v, i) => [v, costs[i]]), tone.soft, 4);
        below.line([[places[least], 0], [places[least], app.least]], tone.line, 3, [8, 6]);
        below.dot(Math.log2(app.sigma), Math.min(2.95, app.nll), tone.accent, 11);
      });
      const update = v => show(learn(2 ** v)[0], 2 ** v), scale = slider("σ of p(x|z)", 0, -5.5, 1, .1, update, v => round(2 ** v));
      host.append(chart.element, key(["the model", "var(--accent)"], ["its centres", "var(--ink)"], ["the truth", "var(--line)"]), scale.element, el("p", {}, button("Learn σ", () => { const [f, s] = learn(.5, true); scale.set(Math.log2(s)); show(f, s); })), speak.element);
      update(0);
    },

    posterior(host, _, app) {
      const speak = speaker(), us = span(-6, 6, 24), weights = softmax(us.map(u => -u * u / 2)), cell = .0625, grid = span(-5, 5, 160), tiles = document.createElement("canvas"), reach = 3;
      let sight, logZ, painted;
      const joint = (a, b) => -(a * a + b * b) / 2 - LOG2PI - (sight.x - sight.of(a, b)) ** 2 / (2 * sight.s ** 2) - Math.log(sight.s) - LOG2PI / 2;
      /* KL(q ‖ p(z|x)): the mean of log q − log p over a grid of q, and log p(x) over a grid of z. */
      const kl = ([m1, m2, l1, l2, r]) => {
        const s1 = Math.exp(l1 / 2), s2 = Math.exp(l2 / 2), c = Math.sqrt(1 - r * r);
        let energy = 0;
        us.forEach((u, i) => us.forEach((v, j) => { energy += weights[i] * weights[j] * joint(m1 + s1 * u, m2 + s2 * (r * u + c * v)); }));
        return logZ - energy - 1 - LOG2PI - (l1 + l2) / 2 - Math.log(c);
      };
      /* A coarse descent: one number of q after another, in steps that halve, from five places. */
      const bounds = [[-2.5, 2.5], [-2.5, 2.5], [-4, 1], [-4, 1], [-.95, .95]];
      const descend = free => [[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]].map(start => {
        let q = [...start, -1, -1, 0], now = kl(q);
        for (let step = .4; step > .002; step /= 2) for (let better = true; better;) {
          better = false;
          for (let i = 0; i < (free ? 5 : 4); i++) for (const way of [-step, step]) {
            const tried = [...q];
            tried[i] = Math.min(bounds[i][1], Math.max(bounds[i][0], q[i] + way));
            const then = kl(tried);
            if (then < now - 1e-6) { q = tried; now = then; better = true; }
          }
        }
        return {q, kl: now};
      }).reduce((a, b) => b.kl < a.kl - 1e-4 ? b : a);
      const known = sights.map(() => null);
      const world = i => {
        sight = sights[app.index = i]; painted = null;
        const logs = grid.flatMap(a => grid.map(b => joint(a, b)));
        logZ = app.logZ = logSumExp(logs) + 2 * Math.log(cell);
        app.best = known[i] = known[i] || {diagonal: descend(false), full: descend(true)};
      };
      const update = () => {
        app.kl = kl(app.q);
        plane.set(app.q[0], app.q[1]); rows.forEach((row, i) => row.set(app.q[i]));
        speak.say(`KL(q‖p) ${fine(app.kl)} nats; the best diagonal q leaves ${fine(app.best.diagonal.kl)}, the best q with correlation ${fine(app.best.full.kl)}`);
      };
      const paintPosterior = tone => {
        if (painted === tone.accent) return;
        painted = tone.accent; tiles.width = tiles.height = 96;
        const g = tiles.getContext("2d"), at = i => ((i + .5) / 48 - 1) * reach, logs = span(0, 95, 95).map(y => span(0, 95, 95).map(x => joint(at(x), -at(y)))), top = Math.max(...logs.flat());
        g.fillStyle = tone.accent;
        logs.forEach((row, y) => row.forEach((v, x) => { g.globalAlpha = .85 * Math.exp(v - top); g.fillRect(x, y, 1, 1); }));
      };
      const plane = pad({label: "Plane of z: the posterior shaded, q as an ellipse of one and of two deviations; drag its mean, or press the arrow keys", span: reach, change: ([x, y]) => { app.q[0] = Math.min(2.5, Math.max(-2.5, x)); app.q[1] = Math.min(2.5, Math.max(-2.5, y)); update(); },
        ground: (g, px, py, tone, size) => { paintPosterior(tone); g.imageSmoothingEnabled = true; g.drawImage(tiles, 0, 0, size, size); },
        over: (g, px, py, tone) => [1, 2].forEach(k => {
          const [m1, m2, l1, l2, r] = app.q;
          g.beginPath();
          span(0, 2 * Math.PI, 72).forEach(t => { const u = k * Math.cos(t), v = k * Math.sin(t); const z = [m1 + Math.exp(l1 / 2) * u, m2 + Math.exp(l2 / 2) * (r * u + Math.sqrt(1 - r * r) * v)]; g.lineTo(px(z), py(z)); });
          g.lineWidth = 4; g.strokeStyle = tone.ink; g.stroke();
        })});
      const rows = ["mean of z₁", "mean of z₂", "log σ² of z₁", "log σ² of z₂", "correlation"].map((words, i) => slider(words, [0, 0, -1, -1, 0][i], ...bounds[i], .05, v => { app.q[i] = v; update(); }));
      app.q = [0, 0, -1, -1, 0];
      world(1);
      const take = found => { app.q = [...found.q]; update(); };
      host.append(el("div", {class: "live-row"}, el("div", {class: "live-col"}, plane.element), el("div", {class: "live-col"}, choice("seen, with noise:", sights.map(s => s.name), 1, i => { world(i); update(); }).element, ...rows.map(row => row.element),
        el("p", {class: "live-strip"}, button("Best diagonal q", () => take(app.best.diagonal)), button("Best with correlation", () => take(app.best.full))))), speak.element);
      update();
    },

    roofline(host, _, app) {
      const speak = speaker(), whole = v => Math.round(2 ** v).toLocaleString("en-US"), bytesOfNumber = {fp32: 4, bf16: 2}, log = Math.log10;
      Object.assign(app, {machine: machines[0], precision: "fp32", batch: 128, width: 512});
      const intensityOf = (b, n) => 2 * b * n * n / (bytesOfNumber[app.precision] * (2 * b * n + n * n)), roof = (i, precision) => Math.min(app.machine[precision], i * app.machine.bandwidth);
      const update = () => {
        const m = app.machine, peak = m[app.precision];
        app.intensity = intensityOf(app.batch, app.width); app.attainable = roof(app.intensity, app.precision);
        app.bound = app.intensity * m.bandwidth < peak ? "memory" : "arithmetic";
        app.ridge = peak / m.bandwidth; app.seconds = 2 * app.batch * app.width ** 2 / app.attainable;
        chart.redraw();
        speak.say(`batch ${whole(Math.log2(app.batch))}, width ${whole(Math.log2(app.width))}, ${app.precision}: ${fine(app.intensity)} operations a byte, ridge ${fine(app.ridge)}; at most ${fine(app.attainable / 1e12)} of ${fine(peak / 1e12)} TFLOP/s, held by ${app.bound}`);
      };
      const chart = chartOf("Roofline: TFLOP/s against operations a byte, both axes logarithmic; the layer is a point on the roof, small dots are its other batch sizes", 420, (g, tone, panel) => {
        const p = panel({box: [84, 14, 628, 362], x: [-1, 4], y: [-3, 3.3], xticks: [[-1, "0.1"], [0, "1"], [1, "10"], [2, "100"], [3, "1,000"]], yticks: [[-3, "0.001"], [-2, "0.01"], [-1, "0.1"], [0, "1"], [1, "10"], [2, "100"], [3, "1,000"]], name: "operations a byte → TFLOP/s"});
        for (const precision of ["fp32", "bf16"]) {
          const chosen = precision === app.precision, points = [-1, log(app.machine[precision] / app.machine.bandwidth), 4].map(v => [v, log(roof(10 ** v, precision) / 1e12)]);
          p.line(points, chosen ? tone.ink : tone.line, chosen ? 5 : 3);
          p.words(precision, 3.95, points[2][1] + .12, "right");
        }
        p.line([[log(app.ridge), -3], [log(app.ridge), log(app.machine[app.precision] / 1e12)]], tone.line, 3, [8, 6]);
        for (let v = 0; v <= 16; v++) { const i = intensityOf(2 ** v, app.width); p.dot(log(i), log(roof(i, app.precision) / 1e12), tone.soft, 5); }
        p.dot(log(app.intensity), log(app.attainable / 1e12), tone.accent, 12);
      });
      host.append(chart.element, slider("images in a batch", 7, 0, 16, 1, v => { app.batch = 2 ** v; update(); }, whole).element, slider("width of the layer", 9, 4, 14, 1, v => { app.width = 2 ** v; update(); }, whole).element,
        choice("numbers:", ["fp32, 4 bytes", "bf16, 2 bytes"], 0, i => { app.precision = ["fp32", "bf16"][i]; update(); }).element, choice("machine:", machines.map(m => m.name), 0, i => { app.machine = machines[i]; update(); }).element, speak.element);
      update();
    }
  });
  // ------------------------------------------------------------------ more parts with a program

  const normOf = z => Math.hypot(...z);
  /* The angle between two codes, and both ways of lesson 09 from one to the other. */
  const angleOf = (a, b) => Math.acos(Math.max(-1, Math.min(1, a.reduce((s, v, i) => s + v * b[i], 0) / Math.max(normOf(a), 1e-8) / Math.max(normOf(b), 1e-8))));
  const lerp = (a, b, t) => a.map((v, i) => (1 - t) * v + t * b[i]);
  const slerp = (a, b, t) => {                  // straight where there is no turn, or no one way to turn
    const w = angleOf(a, b);
    if (w < 1e-3 || w > Math.PI - 1e-3) return lerp(a, b, t);
    return a.map((v, i) => (Math.sin((1 - t) * w) * v + Math.sin(t * w) * b[i]) / Math.sin(w));
  };
  /* Lengths that a share of the draws from N(0, I) in D dimensions stays below. */
  const lengthsBelow = (D, shares) => {
    const rs = span(0, Math.sqrt(D) + 6, 6000), total = [0], f = r => r ** (D - 1) * Math.exp(-r * r / 2);
    for (let i = 1; i < rs.length; i++) total.push(total[i - 1] + f((rs[i - 1] + rs[i]) / 2));
    return shares.map(p => rs[total.findIndex(v => v >= p * total[total.length - 1])]);
  };
  /* Pictures in one line, however narrow the page is. */
  const lane = (shape, n, caption) => {
    const canvases = Array.from({length: n}, () => { const c = still(shape); c.style.cssText = "flex:1 1 0;min-width:0;max-width:64px;height:auto"; return c; });
    return {element: el("figure", {}, el("div", {class: "live-strip", style: "flex-wrap:nowrap;align-items:flex-start", role: "img", "aria-label": caption}, ...canvases), el("figcaption", {}, caption)), set: (i, x) => show(canvases[i], x, shape)};
  };

  /* A model of lines, as vae_course.packing.packed_lines writes it: GRUs that read a name into q(z|x), and write one from z. */
  class Lines {
    constructor(spec) {
      if (spec.format !== 1) throw new Error(`a program of format ${spec.format}: this script reads format 1`);
      this.spec = spec; this.width = spec.latent_dim; this.letters = [...spec.alphabet]; this.end = this.letters.length;
      const bytes = bytesOf(spec.weights), numbers = ref => ref ? numbersOf(bytes, ref) : null, matrix = m => m && {w: numbers(m.weight), b: numbers(m.bias), n: m.weight.shape[0]};
      const gru = g => ({embed: numbers(g.embed), size: g.embed.shape[1], beside: g.beside, start: matrix(g.start), input: matrix(g.input), state: matrix(g.state), width: g.state.weight.shape[1]});
      this.reads = gru(spec.reads); this.writes = gru(spec.writes); this.toQ = matrix(spec.to_q); this.head = matrix(spec.head);
    }

    begin(g, e) { return g.start ? linear(g.start.w, g.start.b, e, g.width).map(Math.tanh) : new Float64Array(g.width); }

    /* One character further: the gates r and u, and n, which r lets see the state before. */
    step(g, token, e, h) {
      const W = g.width, x = Float64Array.from([...g.embed.subarray(token * g.size, (token + 1) * g.size), ...(g.beside ? e : [])]);
      const a = linear(g.input.w, g.input.b, x, 3 * W), b = linear(g.state.w, g.state.b, h, 3 * W);
      return h.map((v, i) => { const r = sigmoid(a[i] + b[i]), u = sigmoid(a[W + i] + b[W + i]), n = Math.tanh(a[2 * W + i] + r * b[2 * W + i]); return (1 - u) * n + u * v; });
    }

    /* The places of the characters, −1 for one that the model does not know. */
    tokens(line) { return [...line].map(c => this.letters.indexOf(c)); }

    encode(tokens) {
      let h = this.begin(this.reads, []);
      for (const t of [this.end, ...tokens]) h = this.step(this.reads, t, [], h);
      return Program.prototype.gaussian(linear(this.toQ.w, this.toQ.b, h, this.toQ.n));
    }

    /* The likeliest character, again and again, until it is the end; `logits` of each place, and the log-probability of the line. */
    greedy(z) {
      const tokens = [], logits = [], shares = [];
      let h = this.begin(this.writes, z), logP = 0;
      for (let told = this.end; tokens.length < this.spec.longest; tokens.push(told)) {
        h = this.step(this.writes, told, z, h);
        const out = linear(this.head.w, this.head.b, h, this.head.n), share = softmax(out);
        told = argmax(out); logits.push(out); shares.push(share[told]); logP += Math.log(share[told]);
        if (told === this.end) break;
      }
      return {tokens, logits, shares, logP, line: tokens.map(t => this.letters[t]).join("")};
    }
  }

  Object.assign(parts, {
    walk(host, [program], app) {
      const shape = program.shape, D = program.width, speak = speaker(), tell = speaker(), ways = [lerp, slerp], names = ["straight", "spherical"], ticks = span(0, 1, 8), fineTicks = span(0, 1, 40), [low, high] = lengthsBelow(D, [.05, .95]);
      const made = names.map(name => picture(shape, name, 112)), lanes = [lane(shape, 9, "nine steps, straight"), lane(shape, 9, "nine steps, spherical"), lane(shape, 9, "the same steps between the pixels")], drawn = lane(shape, 8, "eight draws");
      Object.assign(app, {t: .5, tau: 1, ends: [], images: [], band: [low, high]});
      let seed = 1;
      const at = () => {
        app.z = ways.map(way => way(...app.ends, app.t)); app.norms = app.z.map(normOf);
        app.means = app.z.map(z => program.decode(z).mean);
        made.forEach((m, i) => m.set(app.means[i], `${names[i]}, at t ${round(app.t)}`));
        chart.redraw();
        const odd = app.angle > Math.PI - 1e-3 ? "; opposite codes: every great circle joins them, so both go straight" : "";
        speak.say(`t ${fine(app.t)}: length of z ${round(app.norms[0])} straight, ${round(app.norms[1])} spherical; at the ends ${app.ends.map(z => round(normOf(z))).join(" and ")}, angle ${round(app.angle * 180 / Math.PI, 0)}°${odd}`);
      };
      const ended = (i, x) => {
        app.images[i] = x; app.ends[i] = Float64Array.from(program.encode(x).mu); seen[i].set(x);
        if (app.ends.filter(Boolean).length < 2) return;
        app.angle = angleOf(...app.ends);
        app.strips = ways.map((way, k) => ticks.map((t, j) => { const mean = program.decode(way(...app.ends, t)).mean; lanes[k].set(j, mean); return mean; }));
        ticks.forEach((t, j) => lanes[2].set(j, lerp(...app.images, t)));
        at();
      };
      const throwAgain = () => {
        app.noise = app.noise || randomOf(seed).normals(8 * D);
        app.draws = Array.from({length: 8}, (_, k) => Float64Array.from(app.noise.subarray(k * D, k * D + D), e => app.tau * e));
        app.samples = app.draws.map((z, k) => { const x = program.decode(z).mean; drawn.set(k, x); return x; });
        const lengths = app.draws.map(normOf), n = app.samples[0].length;
        let off = 0;
        for (let i = 0; i < n; i++) { const m = mean(app.samples.map(x => x[i])); app.samples.forEach(x => { off += (x[i] - m) ** 2 / (8 * n); }); }
        app.spread = Math.sqrt(off);
        tell.say(`τ ${round(app.tau, 1)}: lengths of z from ${round(Math.min(...lengths))} to ${round(Math.max(...lengths))}; a pixel varies over the eight by ${fine(app.spread)}`);
      };
      const chart = chartOf("The length of z along the way: the straight way dips, the spherical way does not; grey is where nine of ten draws from the prior lie", 300, (g, tone, panel) => {
        if (!app.z) return;
        const p = panel({box: [52, 12, 628, 240], x: [0, 1], y: [0, Math.max(high, ...app.ends.map(normOf)) + .5], xticks: [0, .25, .5, .75, 1], yticks: [0, 1, 2, 3, 4, 5, 6, 7].filter(v => v < Math.max(high, ...app.ends.map(normOf)) + .5), name: "t → length of z"});
        g.globalAlpha = .45; p.area([[0, high], [1, high]], tone.line); g.globalAlpha = 1; p.area([[0, low], [1, low]], tone.ground);
        ways.forEach((way, i) => p.line(fineTicks.map(t => [t, normOf(way(...app.ends, t))]), [tone.ink, tone.accent][i], 4, i ? [] : [12, 8]));
        app.norms.forEach((v, i) => p.dot(app.t, v, [tone.ink, tone.accent][i], 11));
      });
      const seen = ["the first, as the model sees it", "the second, as the model sees it"].map(words => picture(shape, words, 56));
      const takers = [0, 1].map(i => taker(program, x => ended(i, x)));
      takers.forEach(t => { t.element.style.width = "100%"; });
      app.take = ended;
      host.append(el("div", {class: "live-row", style: "flex-wrap:nowrap"}, ...takers.map((t, i) => el("div", {class: "live-col", role: "group", "aria-label": ["First drawing", "Second drawing"][i], style: "flex:1 1 0;max-width:250px"}, t.element, seen[i].element))),
        slider("t, from 0 to 1", .5, 0, 1, .025, v => { app.t = v; at(); }, v => fine(v)).element,
        el("div", {class: "live-row"}, made[0].element, made[1].element, el("div", {class: "live-col"}, chart.element, key(["straight", "var(--ink)"], ["spherical", "var(--accent)"], ["nine of ten draws from the prior", "var(--line)"]))),
        el("div", {style: "max-width:600px"}, ...lanes.map(l => l.element)), speak.element,
        el("p", {class: "live-soft"}, "Eight codes drawn from N(0, τ²), and what they decode to; their noise stays as it is when τ is moved."),
        slider("temperature τ", 1, 0, 4, .1, v => { app.tau = v; throwAgain(); }, v => round(v, 1)).element, el("div", {style: "max-width:540px"}, drawn.element), el("p", {}, button("Other noise", () => { seed++; app.noise = null; throwAgain(); })), tell.element);
      const {images} = takers[0];
      if (images.length) [0, 1].forEach(i => ended(i, images[[2, 7][i] % images.length]));
      throwAgain();
    },

    spread(host, [data], app) {
      const N = data.labels.length, D = data.latent_dim, K = data.classes.length, codes = numbersOf(bytesOf(data.codes), {kind: "float16", at: 0, shape: [N, D]}), speak = speaker(), tell = speaker(), alpha = .99;
      const far = Array.from({length: N}, (_, i) => Float64Array.from({length: N}, (_, j) => { let s = 0; for (let d = 0; d < D; d++) s += (codes[i * D + d] - codes[j * D + d]) ** 2; return s; }));
      const byDistance = far.map((row, i) => Array.from(row.keys()).filter(j => j !== i).sort((a, b) => row[a] - row[b]));
      const rounds = [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, Infinity], roundWords = v => rounds[v] === Infinity ? "all" : String(rounds[v]);
      Object.assign(app, {known: [], k: 10, rounds: Infinity, at: 0, wrong: false});
      let links, seed = 1;
      /* As in lesson 11: a link to each of the k nearest weighs exp(−d²/sᵢsⱼ), s the mean distance to them; S divides by the roots of the sums. */
      const graph = () => {
        const near = byDistance.map(row => row.slice(0, app.k)), s = near.map((js, i) => mean(js.map(j => Math.sqrt(far[i][j]))) + 1e-12), W = Array.from({length: N}, () => new Map());
        near.forEach((js, i) => js.forEach(j => { const w = Math.exp(-far[i][j] / (s[i] * s[j])); W[i].set(j, w); W[j].set(i, w); }));
        const root = W.map(row => Math.sqrt([...row.values()].reduce((a, b) => a + b, 0) + 1e-12));
        links = W.map((row, i) => [...row].map(([j, w]) => [j, w, w / root[i] / root[j]]));
      };
      const passed = f => { const out = new Float64Array(N); for (let i = 0; i < N; i++) { let s = 0; for (const [j, , v] of links[i]) s += v * f[j]; out[i] = s; } return out; };
      const dot = (a, b) => { let s = 0; for (let i = 0; i < N; i++) s += a[i] * b[i]; return s; };
      /* F = αSF + (1 − α)Y for one class: so many rounds from Y, or to the end by conjugate gradients. */
      const column = y => {
        let f = y;
        if (app.rounds < Infinity) { for (let n = 0; n < app.rounds; n++) { const more = passed(f); f = y.map((v, i) => alpha * more[i] + (1 - alpha) * v); } return f; }
        f = new Float64Array(N);
        let r = y.map(v => (1 - alpha) * v), p = r, rr = dot(r, r);
        for (let n = 0; n < 2000 && rr > 1e-26; n++) {
          const s = passed(p), Ap = p.map((v, i) => v - alpha * s[i]), step = rr / dot(p, Ap);
          f = f.map((v, i) => v + step * p[i]); r = r.map((v, i) => v - step * Ap[i]);
          const next = dot(r, r), ratio = next / rr;
          p = r.map((v, i) => v + ratio * p[i]); rr = next;
        }
        return f.map(v => Math.max(0, v));
      };
      const update = () => {
        const classes = [...new Set(app.known.map(i => data.labels[i]))].sort((a, b) => a - b), isKnown = new Set(app.known);
        const columns = classes.map(c => { const y = new Float64Array(N); app.known.forEach(i => { if (data.labels[i] === c) y[i] = 1; }); const f = column(y), total = f.reduce((a, b) => a + b, 0); return f.map(v => v / total); });
        app.F = Array.from({length: N}, (_, i) => {  // each class has the same mass, each row adds up to 1; all 0 where no label has come
          const row = new Float64Array(K), total = columns.reduce((s, f) => s + f[i], 0);
          if (total > 0) classes.forEach((c, n) => { row[c] = columns[n][i] / total; });
          return row;
        });
        app.guess = app.F.map((row, i) => isKnown.has(i) ? data.labels[i] : row.some(v => v > 0) ? argmax(row) : -1);
        app.nearest = far.map((row, i) => { let best = -1; for (const j of app.known) if (best < 0 || row[j] < row[best]) best = j; return best < 0 ? -1 : data.labels[best]; });
        const open = data.labels.map((_, i) => i).filter(i => !isKnown.has(i)), right = guess => open.length ? open.filter(i => guess[i] === data.labels[i]).length / open.length : 0;
        app.right = right(app.guess); app.nearestRight = right(app.nearest); app.reached = open.filter(i => app.guess[i] >= 0).length;
        draw(); bars.redraw();
        const n = app.known.length;
        speak.say(n ? `${n} label${n > 1 ? "s" : ""}, ${classes.length} of ${K} classes: of the other ${open.length}, spreading names ${round(100 * app.right, 1)} % rightly, the nearest label ${round(100 * app.nearestRight, 1)} %${app.reached < open.length ? `; ${open.length - app.reached} not reached` : ""}` : "no label is known: click a dot, or press a button");
      };
      const reveal = i => { app.known = app.known.includes(i) ? app.known.filter(j => j !== i) : [...app.known, i]; };
      const place = i => [320 + 310 * data.flat[i][0], 320 - 310 * data.flat[i][1]];
      const said = () => {
        const i = app.at, guess = app.guess[i];
        tell.say(app.known.includes(i) ? `dot ${i + 1}: its label is ${data.classes[data.labels[i]]}` : `dot ${i + 1}, label hidden: ${guess < 0 ? "no label has reached it" : `spreading says ${data.classes[guess]} with share ${round(app.F[i][guess])}, the nearest label ${data.classes[app.nearest[i]]}`}`);
      };
      const canvas = el("canvas", {class: "live-pad", width: 640, height: 640, tabindex: "0", role: "application", "aria-roledescription": "map of codes", "aria-label": `Map of ${N} codes: click a dot, or move with the arrow keys and press Enter, to reveal its label`, style: "width:440px;touch-action:manipulation;cursor:pointer"});
      const lead = row => { const [first, second] = [...row].sort((a, b) => b - a); return 1 - second / first; };   // over the second class
      const draw = () => {
        const g = canvas.getContext("2d"), tone = shades(canvas), shade = i => app.guess[i] < 0 ? tone.soft : colours[app.guess[i] % 10], disc = (i, size) => { g.beginPath(); g.arc(...place(i), size, 0, 7); };
        g.fillStyle = tone.ground; g.fillRect(0, 0, 640, 640);
        g.lineWidth = 1.5; g.strokeStyle = tone.soft;
        links.forEach((row, i) => row.forEach(([j, w]) => { if (j > i) { g.globalAlpha = .28 * w; g.beginPath(); g.moveTo(...place(i)); g.lineTo(...place(j)); g.stroke(); } }));
        g.globalAlpha = 1;
        for (let i = 0; i < N; i++) {
          if (app.known.includes(i)) continue;
          const miss = app.wrong && app.guess[i] >= 0 && app.guess[i] !== data.labels[i];
          g.fillStyle = g.strokeStyle = shade(i);
          if (app.guess[i] < 0) { g.lineWidth = 2; disc(i, 4); g.stroke(); continue; }
          g.globalAlpha = miss ? 1 : .4 + .6 * Math.min(1, 3 * lead(app.F[i]));
          disc(i, 7); g.fill(); g.globalAlpha = 1;
          if (miss) { const [x, y] = place(i); g.strokeStyle = tone.ink; g.lineWidth = 2.5; g.beginPath(); g.moveTo(x - 7, y - 7); g.lineTo(x + 7, y + 7); g.moveTo(x - 7, y + 7); g.lineTo(x + 7, y - 7); g.stroke(); }
        }
        g.font = "bold 20px system-ui"; g.textAlign = "center"; g.textBaseline = "middle";
        for (const i of app.known) {
          disc(i, 14); g.fillStyle = tone.ground; g.fill(); g.lineWidth = 4; g.strokeStyle = shade(i); g.stroke();
          g.fillStyle = tone.ink; g.fillText(data.classes[data.labels[i]].slice(0, 2), place(i)[0], place(i)[1] + 1);
        }
        disc(app.at, 19); g.lineWidth = 3; g.strokeStyle = tone.accent; g.stroke();
      };
      canvas.addEventListener("click", event => {
        const b = canvas.getBoundingClientRect(), x = (event.clientX - b.left) / b.width * 640, y = (event.clientY - b.top) / b.height * 640;
        let best = 0, least = Infinity;
        for (let i = 0; i < N; i++) { const [u, v] = place(i), s = (u - x) ** 2 + (v - y) ** 2; if (s < least) { least = s; best = i; } }
        app.at = best; reveal(best); update(); said();
      });
      canvas.addEventListener("keydown", event => {
        const way = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
        if (way) {                              // the nearest dot that lies that way
          const [x, y] = place(app.at);
          let best = app.at, least = Infinity;
          for (let i = 0; i < N; i++) { const [u, v] = place(i), along = (u - x) * way[0] + (v - y) * way[1], aside = Math.abs((u - x) * way[1] + (v - y) * way[0]); if (along > 0 && along + 2 * aside < least) { least = along + 2 * aside; best = i; } }
          app.at = best; draw();
        } else if (event.key === "Enter" || event.key === " ") { reveal(app.at); update(); } else return;
        said(); event.preventDefault();
      });
      const some = pick => { app.known = [...app.known, ...pick(randomOf(seed++))]; update(); said(); };
      const drawn = (from, n, random) => { const left = [...from], out = []; while (out.length < n && left.length) out.push(...left.splice(Math.floor(random.uniform() * left.length), 1)); return out; };
      const hidden = () => data.labels.map((_, i) => i).filter(i => !app.known.includes(i));
      const each = random => data.classes.flatMap((_, c) => drawn(hidden().filter(i => data.labels[i] === c), 1, random));
      const bars = chartOf("Share of the unlabelled that is named rightly, by spreading and by the nearest label", 130, (g, tone) => [["spreading", app.right, tone.accent], ["nearest label", app.nearestRight, tone.soft]].forEach(([words, v, colour], i) => {
        const y = 14 + 58 * i;
        g.fillStyle = tone.line; g.fillRect(190, y, 340, 44); g.fillStyle = colour; g.fillRect(190, y, 340 * v, 44);
        g.fillStyle = tone.ink; g.font = "24px system-ui"; g.textAlign = "right"; g.fillText(words, 178, y + 31); g.textAlign = "left"; g.fillText(`${round(100 * v, 1)} %`, 542, y + 31);
      }));
      bars.element.style.width = "100%";
      const wrong = button("Mark the wrong ones", () => { app.wrong = !app.wrong; wrong.setAttribute("aria-pressed", app.wrong); draw(); }, {"aria-pressed": "false"});
      const rows = [slider("neighbours k", 10, 1, 20, 1, v => { app.k = v; graph(); update(); said(); }, String), slider("rounds", rounds.length - 1, 0, rounds.length - 1, 1, v => { app.rounds = rounds[v]; update(); said(); }, roundWords)];
      rows.forEach(row => { row.element.style.gridTemplateColumns = "7rem 1fr 2.2rem"; });
      app.reveal = i => { app.at = i; reveal(i); update(); said(); };
      host.append(el("div", {class: "live-row"}, el("div", {class: "live-col"}, canvas, key(...data.classes.map((c, i) => [c, colours[i % 10]]))), el("div", {class: "live-col", style: "flex:1 1 280px;max-width:440px"}, bars.element,
        el("p", {class: "live-strip"}, button("Add one of each class", () => some(each)), button("Add ten at random", () => some(random => drawn(hidden(), 10, random))), button("Forget them", () => { app.known = []; update(); said(); }), wrong),
        ...rows.map(row => row.element), el("p", {class: "live-soft"}, `Codes of ${D} numbers, laid flat for the eye; the links and both shares come from the codes themselves.`))), speak.element, tell.element);
      graph(); watchShades(draw);
      app.known = each(randomOf(seed++));
      update(); said();
    },

    names(host, [program], app) {
      const speak = speaker(), ways = [slerp, lerp], ticks = span(0, 1, 8), longest = program.spec.longest;
      Object.assign(app, {t: .5, way: 0, ends: [], lines: []});
      const at = () => {
        const [a, b] = app.ends, way = ways[app.way];
        app.z = way(a, b, app.t); app.made = program.greedy(app.z);
        app.between = ticks.map(t => program.greedy(way(a, b, t)).line);
        steps.forEach((step, i) => { step.textContent = app.between[i] || "(nothing)"; step.setAttribute("aria-pressed", Math.abs(app.t - ticks[i]) < 1e-9); });
        big.textContent = app.made.line || "(nothing)";
        chart.redraw();
        speak.say(`t ${fine(app.t)}: ${app.made.line || "nothing"}, log p ${round(app.made.logP)} nats; length of z ${round(normOf(app.z))}`);
      };
      const typed = (i, text) => {
        const line = text.trim().toLowerCase().normalize("NFC"), tokens = program.tokens(line), unknown = [...line][tokens.indexOf(-1)];
        inputs[i].setAttribute("aria-invalid", !tokens.length || tokens.length > longest || unknown !== undefined);
        if (!tokens.length) return speak.say("type a name", true);
        if (unknown !== undefined) return speak.say(`the model was shown no “${unknown}”: the name before stays`, true);
        if (tokens.length > longest) return speak.say(`the model takes names of at most ${longest} letters: the name before stays`, true);
        app.lines[i] = line; app.q = app.q || []; app.q[i] = program.encode(tokens); app.ends[i] = app.q[i].mu;
        if (app.ends.filter(Boolean).length === 2) at();
      };
      const chart = chartOf("The probability of each letter at the point, and of the end", 210, (g, tone) => {
        if (!app.made) return;
        const {shares, tokens} = app.made, w = 640 / (longest + 1);
        g.textAlign = "center";
        shares.forEach((p, i) => {
          g.fillStyle = tone.line; g.fillRect(i * w + 4, 10, w - 8, 120);
          g.fillStyle = tone.accent; g.fillRect(i * w + 4, 130 - 120 * p, w - 8, 120 * p);
          g.fillStyle = tone.ink; g.font = "28px system-ui"; g.fillText(i < tokens.length ? program.letters[tokens[i]] : ">", i * w + w / 2, 164);
          g.fillStyle = tone.soft; g.font = "20px system-ui"; g.fillText(String(Math.round(100 * p)), i * w + w / 2, 194);
        });
      });
      const inputs = [0, 1].map(i => el("input", {type: "text", id: named(), value: ["maria", "antonio"][i], maxlength: 2 * longest, autocomplete: "off", autocapitalize: "none", spellcheck: "false", style: "font:inherit;color:var(--ink);background:var(--field);border:1px solid var(--line);border-radius:6px;padding:.3rem .7rem;min-height:44px;width:100%", oninput: event => typed(i, event.target.value)}));
      const big = el("p", {style: "font-size:1.8rem;margin:.2rem 0;min-height:1.5em"}), steps = ticks.map(t => button("", () => { app.t = t; place.set(t); at(); }, {"aria-pressed": "false"}));
      const place = slider("t, from 0 to 1", .5, 0, 1, .025, v => { app.t = v; at(); }, fine);
      host.append(el("div", {class: "live-row", style: "flex-wrap:nowrap;margin-bottom:.4rem"}, ...inputs.map((input, i) => el("div", {class: "live-col", style: "flex:1 1 0;max-width:12rem"}, el("label", {for: input.id}, ["the first name", "the second name"][i]), el("br"), input))),
        place.element, big, el("figure", {}, chart.element, el("figcaption", {}, "probability of each letter in per cent; > ends the name")),
        el("div", {class: "live-strip", role: "group", "aria-label": "Nine names on the way"}, ...steps), choice("way:", ["spherical", "straight"], 0, i => { app.way = i; at(); }).element, speak.element);
      inputs.forEach((input, i) => typed(i, input.value));
    }
  });

  const bare = ["gaussian", "noise", "reliability", "blur", "posterior", "roofline"];   // mounted without a program, from a file, too

  /* `<div class="live" data-program="a.json b.json" data-part="plane">` with a still picture in it: once it comes into view, the part takes its place. Without the programs the picture stays. A part that needs none (`bare`) has no data-program. */
  const mount = async (host, specs) => {
    if (host.live) return host.live;
    const make = parts[host.dataset.part], app = {};
    if (!make) throw new Error(`no part called ${host.dataset.part}: there are ${Object.keys(parts).join(", ")}`);
    host.live = app;
    try {
      const places = (host.dataset.program || "").split(/\s+/).filter(Boolean), needs = !bare.includes(host.dataset.part);
      if (needs && !specs && !places.length) throw new Error(`the part ${host.dataset.part} needs a data-program`);
      const read = specs || await Promise.all(places.map(async place => {
        const answer = await fetch((host.dataset.base || "") + place);
        if (!answer.ok) throw new Error(`${place} gave ${answer.status}`);
        return answer.json();
      }));
      styled();
      const inner = el("div", {class: "live-app", "data-lm-suppress-shortcuts": "true"}), programs = read.map(spec => spec.weights === undefined ? spec : spec.alphabet ? new Lines(spec) : new Program(spec));
      app.programs = programs; app.program = programs[0];
      make(inner, programs, app);
      if (needs && host.dataset.part !== "beta") inner.append(...programs.map(p => aboutLine(p.spec ? p : {spec: p})));
      host.replaceChildren(inner);
      host.dataset.ready = "yes";
    } catch (error) {
      delete host.live;
      host.dataset.ready = "no";
      throw error;
    }
    return app;
  };
  const watch = () => {
    const hosts = [...document.querySelectorAll("div.live[data-part]:not([data-ready])")].filter(host => location.protocol !== "file:" || bare.includes(host.dataset.part) && !host.dataset.program);
    if (!hosts.length) return;                  // a file may fetch nothing: the picture stays
    const seen = new IntersectionObserver(entries => { for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); mount(entry.target).catch(error => console.warn(error.message)); } }, {rootMargin: "200px"});
    hosts.forEach(host => seen.observe(host));
  };
  if (typeof document !== "undefined") { if (document.readyState === "loading") addEventListener("DOMContentLoaded", watch); else watch(); }

  const api = {Program, randomOf, logSumExp, logNormal, centred, fitted, drawQ, explore, mount, parts, noiseFor, lerp, slerp, watch};
  if (typeof module !== "undefined" && module.exports) module.exports = api;
  if (typeof window !== "undefined") window.vaeLive = api;
})();
