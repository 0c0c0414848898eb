// An exported transducer in onnxruntime-web: chunks, greedy search, pauses.
// The same as espnet_kd/device/{networks,search,spelling,recogniser}.py with one utterance.

import * as ort from "./onnxruntime/ort.wasm.min.mjs";
import { FeatureStream, FrontEnd } from "./features.js";

const BLANK = 0, MOST_LABELS = 10, WINDOW = 8, SHORT_PAUSE = 0.3;
const STATES = { lstm: ["h", "c"], stateless: [], averaged: ["h"] }; // of a predictor
export const PAUSES = { pause: 1.0, silence: 2.4, longest: 20.0 };

export class Model {
  // Load an exported folder from a URL that ends with "/".
  static async load(folder) {
    ort.env.wasm.wasmPaths = new URL("./onnxruntime/", import.meta.url).href;
    ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
    const model = new Model();
    model.d = await (await fetched(folder + "model.json")).json();
    const lines = (await (await fetched(folder + "tokens.txt")).text()).split("\n");
    model.tokens = lines.filter((line) => line).map((line) => line.slice(0, line.lastIndexOf(" ")));
    for (const name of ["encoder", "predictor", "joiner"]) {
      const graph = await (await fetched(`${folder}${name}.onnx`)).arrayBuffer();
      model[name] = await ort.InferenceSession.create(new Uint8Array(graph));
    }
    model.frontEnd = new FrontEnd(model.d);
    model.frameSeconds = (model.d.subsampling * model.d.hop_length) / model.d.sampling_rate;
    model.shift = model.d.subsampling * model.d.chunk_size;
    model.overlap = model.d.subsampling - 1;
    return model;
  }

  zeros(name) {
    const [first, ...others] = this.d.states[name], shape = [first, 1, ...others];
    return new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b)), shape);
  }

  startEncoder() {
    const processed = new ort.Tensor("int64", BigInt64Array.of(0n), [1]);
    return { att: this.zeros("att"), conv: this.zeros("conv"), processed };
  }

  startPredictor() {
    return Object.fromEntries(STATES[this.d.predictor].map((name) => [name, this.zeros(name)]));
  }

  // Encode feature frames: [projected encoder frames (U of them), states].
  async encode(frames, states) {
    const bins = this.d.n_mels, x = new Float32Array(frames.length * bins);
    frames.forEach((frame, i) => x.set(frame, i * bins));
    const out = await this.encoder.run({ x: new ort.Tensor("float32", x, [1, frames.length, bins]), ...states });
    const [, count, width] = out.y.dims;
    const y = Array.from({ length: count }, (_, i) => out.y.data.slice(i * width, (i + 1) * width));
    return [y, { att: out.att_out, conv: out.conv_out, processed: out.processed_out }];
  }

  async predict(label, states) {
    const y = new ort.Tensor("int64", BigInt64Array.of(BigInt(label)), [1]);
    const out = await this.predictor.run({ y, ...states });
    const after = STATES[this.d.predictor].map((name) => [name, out[`${name}_out`]]);
    return [out.d.data, Object.fromEntries(after)];
  }

  // The likeliest token of each encoder frame, after the same labels.
  async likeliest(frames, dec) {
    const width = dec.length, shape = [frames.length, width];
    const enc = new Float32Array(frames.length * width), decs = new Float32Array(enc.length);
    frames.forEach((frame, i) => { enc.set(frame, i * width); decs.set(dec, i * width); });
    const { logits } = await this.joiner.run({
      enc: new ort.Tensor("float32", enc, shape), dec: new ort.Tensor("float32", decs, shape) });
    const size = logits.dims[1];
    return frames.map((_, i) => {
      let best = 0;
      for (let v = 1; v < size; v++) if (logits.data[i * size + v] > logits.data[i * size + best]) best = v;
      return best;
    });
  }

  // Words of some labels: {text, first, last} with places of labels.
  words(labels) {
    const words = [], type = this.d.token_type;
    let text = "", first = 0;
    labels.forEach((label, place) => {
      let token = this.tokens[label], begins = type === "word";
      const space = token === "<space>";
      if (type === "bpe" && token.startsWith("\u2581")) { token = token.slice(1); begins = true; }
      if ((space || begins) && text) { words.push({ text, first, last: place }); text = ""; }
      if (space) return;
      if (!text) first = place;
      text += token;
    });
    return text ? [...words, { text, first, last: labels.length }] : words;
  }
}

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
  return response;
}

class GreedySearch {
  constructor(model) { Object.assign(this, { model, labels: [], frames: [], passed: 0, dec: null }); }

  async advance(enc) {
    const { model } = this;
    if (!this.dec) [this.dec, this.states] = await model.predict(BLANK, model.startPredictor());
    for (let at = 0, there = 0; at < enc.length;) {
      const tokens = await model.likeliest(enc.slice(at, at + WINDOW), this.dec);
      const first = tokens.findIndex((token) => token !== BLANK);
      if (first !== 0) there = 0;
      if (first < 0) { at += tokens.length; continue; }
      at += first;
      this.labels.push(tokens[first]);
      this.frames.push(this.passed + at);
      [this.dec, this.states] = await model.predict(tokens[first], this.states);
      if (++there >= MOST_LABELS) { at++; there = 0; }
    }
    this.passed += enc.length;
  }
}

// One stream of audio; segments are {text, start, end}, in seconds.
export class Listener {
  constructor(model, pauses = PAUSES) {
    Object.assign(this, { model, pauses, waiting: [], passed: 0 });
    this.features = new FeatureStream(model.frontEnd);
    this.begin();
  }

  begin() {
    this.states = this.model.startEncoder();
    this.search = new GreedySearch(this.model);
    this.start = this.passed; // feature frame
    this.frames = 0; // encoder frames of the segment so far
  }

  // Take samples at the model's rate and return the segments that have ended.
  async push(samples) {
    this.waiting.push(...this.features.push(samples));
    return this.advance();
  }

  async end() {
    this.waiting.push(...this.features.end());
    const segments = await this.advance();
    if (this.waiting.length >= this.model.overlap + this.model.d.subsampling) await this.encode(this.waiting);
    this.waiting = [];
    const last = this.partial();
    return last.text ? [...segments, last] : segments;
  }

  partial() {
    const { d, frameSeconds } = this.model, { labels, frames } = this.search;
    const words = this.model.words(labels), start = (this.start * d.hop_length) / d.sampling_rate;
    const time = (place) => start + frames[place] * frameSeconds;
    return {
      text: words.map((word) => word.text).join(" "),
      start: words.length ? time(words[0].first) : start,
      end: words.length ? time(words.at(-1).last - 1) + frameSeconds : start,
    };
  }

  async advance() {
    const { shift, overlap } = this.model, segments = [];
    while (this.waiting.length >= shift + overlap) {
      const chunk = this.waiting.slice(0, shift + overlap);
      await this.encode(chunk);
      this.waiting = this.waiting.slice(shift);
      this.passed += shift;
      if (!this.hasEnded()) continue;
      const segment = this.partial();
      if (segment.text) segments.push(segment);
      this.beginBehind(chunk.slice(0, shift));
    }
    return segments;
  }

  async encode(frames) {
    const [enc, states] = await this.model.encode(frames, this.states);
    this.states = states;
    this.frames += enc.length;
    await this.search.advance(enc);
  }

  quiet() { return this.frames - 1 - (this.search.frames.at(-1) ?? -1); }

  hasEnded() {
    const seconds = this.model.frameSeconds, length = this.frames * seconds, quiet = this.quiet() * seconds;
    if (quiet === length) return length >= this.pauses.silence && this.frames > this.model.d.chunk_size;
    if (length >= 2 * this.pauses.longest) return true;
    return quiet >= (length < this.pauses.longest ? this.pauses.pause : SHORT_PAUSE);
  }

  // Begin a segment with the last chunk, if that was silent: a word may begin in it.
  beginBehind(chunk) {
    const quiet = this.quiet();
    const long = quiet === this.frames || quiet * this.model.frameSeconds >= this.pauses.pause;
    if (long && quiet >= this.model.d.chunk_size) {
      this.waiting = [...chunk, ...this.waiting];
      this.passed -= chunk.length;
    }
    this.begin();
  }
}
