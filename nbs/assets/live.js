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
      this.priorParts = spec.prior && this.readyPrior(spec.prior);
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
      if (prior.name === "learned") return {...prior, layers: this.ready(prior.layers)};
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

    /* q(z|x, c) of an image, its numbers in [0, 1]: {mu, logvar, sigma}, or {codes}. */
    encode(x, c) {
      const out = this.run(this.encoder, x, this.shape, this.embed(c));
      return this.codebook ? {codes: this.nearest(out)} : this.gaussian(out);
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
      const input = this.codebook ? this.lookUp(z) : Float64Array.from(z);
      const from = this.codebook ? [this.spec.codebook.shape[1], ...this.spec.codes] : [z.length];
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

    /* p(z|c) as a Gaussian {mu, logvar, sigma}; null for a mixture. */
    priorOf(c) {
      const prior = this.priorParts;
      if (prior.name === "learned") return this.gaussian(this.run(prior.layers, this.embed(c)));
      if (prior.name !== "normal") return null;
      const zero = new Float64Array(this.width);
      return {mu: zero, logvar: zero, sigma: zero.map(() => 1)};
    }

    /* The KL of each latent in closed form; null where the prior has none. */
    klByLatent(q, c) {
      const p = this.priorOf(c);
      return p && q.mu.map((m, i) => (Math.exp(q.logvar[i] - p.logvar[i]) + (m - p.mu[i]) ** 2 / Math.exp(p.logvar[i]) - 1 - q.logvar[i] + p.logvar[i]) / 2);
    }

    kl(q, z, c) {
      const parts = this.klByLatent(q, c);
      return parts ? parts.reduce((a, b) => a + b, 0) : logNormal(z, q.mu, q.logvar) - this.logPrior(z, c);
    }

    logPrior(z, c) {
      const prior = this.priorParts, p = this.priorOf(c);
      if (p) return logNormal(z, p.mu, p.logvar);
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
        const z = noise ? q.mu.map((m, i) => m + q.sigma[i] * noise[k * D + i]) : q.mu;
        reconstruction += this.cost(this.decode(z, c), x) / K;
        kl += this.kl(q, z, c) / K;
      }
      return {reconstruction, kl, negElbo: reconstruction + kl, q};
    }

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

  const api = {Program, randomOf, logSumExp, logNormal};
  if (typeof module !== "undefined" && module.exports) module.exports = api;
  if (typeof window !== "undefined") window.vaeLive = api;
})();
