// ESPnet's `default` front end: log-mel features of audio that comes in pieces.
// The same arithmetic as espnet_kd/device/features.py.

export class FrontEnd {
  constructor(description) {
    const d = (this.d = description);
    this.window = Float64Array.from({ length: d.win_length }, (_, i) =>
      0.5 - 0.5 * Math.cos((2 * Math.PI * i) / d.win_length));
    this.mel = melFilters(d);
    // The window stands in the middle of n_fft samples.
    this.before = Math.floor(d.n_fft / 2) - Math.floor((d.n_fft - d.win_length) / 2);
    this.after = d.win_length - this.before;
    this.fourier = new Fourier(d.n_fft);
  }

  // Features of the frame that begins with samples[start]: Float32Array of n_mels.
  frame(samples, start) {
    const d = this.d, input = new Float64Array(d.n_fft);
    for (let i = 0; i < d.win_length; i++) input[i] = samples[start + i] * this.window[i];
    const power = this.fourier.power(input);
    return Float32Array.from(this.mel, ({ first, weights }) => {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += power[first + i] * weights[i];
      return Math.log(Math.max(sum, d.log_floor));
    });
  }
}

export class FeatureStream {
  constructor(frontEnd) {
    this.frontEnd = frontEnd;
    this.kept = new Float64Array(0); // the last samples
    this.next = 0; // the first of them that the next frame needs
    this.taken = this.made = 0; // samples and frames so far
    this.mirrored = false;
  }

  push(samples) {
    const { d, before } = this.frontEnd;
    this.taken += samples.length;
    this.kept = joined(this.kept, samples);
    if (!this.mirrored && this.taken > before) this.mirrorStart();
    if (!this.mirrored) return [];
    const left = this.kept.length - this.next - d.win_length;
    return this.take(Math.max(0, 1 + Math.floor(left / d.hop_length)));
  }

  end() {
    if (!this.taken) return [];
    if (!this.mirrored) this.mirrorStart();
    const total = 1 + Math.floor(this.taken / this.frontEnd.d.hop_length);
    const tail = Float64Array.from({ length: this.frontEnd.after }, (_, i) =>
      reflected(this.kept, this.kept.length + i));
    this.kept = joined(this.kept, tail);
    return this.take(total - this.made);
  }

  mirrorStart() {
    const head = Float64Array.from({ length: this.frontEnd.before }, (_, i) =>
      reflected(this.kept, i - this.frontEnd.before));
    this.kept = joined(head, this.kept);
    this.mirrored = true;
  }

  take(count) {
    const hop = this.frontEnd.d.hop_length;
    const frames = Array.from({ length: count }, (_, i) =>
      this.frontEnd.frame(this.kept, this.next + i * hop));
    this.next += count * hop;
    const unused = Math.max(0, this.next - this.frontEnd.after); // the last mirror needs the rest
    this.kept = this.kept.slice(unused);
    this.next -= unused;
    this.made += count;
    return frames;
  }
}

// One channel of several, their mean, made of numbers in [-1, 1]: NaN is taken for silence.
export function mono(channels) {
  const sum = new Float32Array(channels[0].length);
  for (const channel of channels) {
    channel.forEach((x, i) => {
      sum[i] += Number.isFinite(x) ? Math.max(-1, Math.min(1, x)) / channels.length : 0;
    });
  }
  return sum;
}

function joined(a, b) {
  const both = new Float64Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

// The sample at a place beyond either end, as numpy's and torch's `reflect` have it.
function reflected(samples, place) {
  const last = samples.length - 1;
  if (last === 0) return samples[0];
  const turn = ((place % (2 * last)) + 2 * last) % (2 * last);
  return samples[turn <= last ? turn : 2 * last - turn];
}

// A Fourier transform of real numbers of any length, fast where that has small factors.
class Fourier {
  constructor(n) {
    this.n = n;
    this.cos = Float64Array.from({ length: n }, (_, i) => Math.cos((2 * Math.PI * i) / n));
    this.sin = Float64Array.from({ length: n }, (_, i) => -Math.sin((2 * Math.PI * i) / n));
    this.re = new Float64Array(n);
    this.im = new Float64Array(n);
    this.part = [new Float64Array(n), new Float64Array(n)];
  }

  power(input) {
    this.transform(input, 0, 1, this.n, 0);
    return Float64Array.from({ length: Math.floor(this.n / 2) + 1 }, (_, i) =>
      this.re[i] ** 2 + this.im[i] ** 2);
  }

  // Transform `n` numbers, `step` apart from `first` on, to re and im from `to` on.
  transform(input, first, step, n, to) {
    const { re, im, cos, sin } = this, [partRe, partIm] = this.part;
    if (n === 1) {
      re[to] = input[first];
      im[to] = 0;
      return;
    }
    let p = 2;
    while (n % p) p++;
    const m = n / p;
    for (let r = 0; r < p; r++) this.transform(input, first + r * step, step * p, m, to + r * m);
    for (let k = 0; k < n; k++) {
      let sumRe = 0, sumIm = 0;
      for (let r = 0; r < p; r++) {
        const from = to + r * m + (k % m), turn = ((r * k) % n) * (this.n / n);
        sumRe += re[from] * cos[turn] - im[from] * sin[turn];
        sumIm += re[from] * sin[turn] + im[from] * cos[turn];
      }
      partRe[k] = sumRe;
      partIm[k] = sumIm;
    }
    re.set(partRe.subarray(0, n), to);
    im.set(partIm.subarray(0, n), to);
  }
}

// Triangular filters of equal area, as librosa makes them: {first bin, weights} each.
function melFilters(d) {
  const hz = (i) => (i * d.sampling_rate) / 2 / Math.floor(d.n_fft / 2);
  const [low, high] = [mel(d.fmin, d.htk), mel(d.fmax, d.htk)];
  const edges = Array.from({ length: d.n_mels + 2 }, (_, i) =>
    hertz(low + ((high - low) * i) / (d.n_mels + 1), d.htk));
  return Array.from({ length: d.n_mels }, (_, i) => {
    const [left, middle, right] = edges.slice(i, i + 3), weights = [];
    let first = 0;
    for (let bin = 0; bin <= Math.floor(d.n_fft / 2); bin++) {
      const up = (hz(bin) - left) / (middle - left), down = (right - hz(bin)) / (right - middle);
      const weight = Math.fround((Math.max(0, Math.min(up, down)) * 2) / (right - left));
      if (weight > 0 && !weights.length) first = bin;
      if (weight > 0) weights.push(weight);
    }
    return { first, weights };
  });
}

// Slaney's scale is linear up to 1000 Hz, where it has 15 mel, and logarithmic above.
const STEP = Math.log(6.4) / 27;
const mel = (hz, htk) => htk ? 2595 * Math.log10(1 + hz / 700)
  : hz < 1000 ? (hz * 3) / 200 : 15 + Math.log(hz / 1000) / STEP;
const hertz = (m, htk) => htk ? 700 * (10 ** (m / 2595) - 1)
  : m < 15 ? (m * 200) / 3 : 1000 * Math.exp(STEP * (m - 15));
