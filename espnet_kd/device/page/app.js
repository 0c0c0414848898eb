// The page: a dropped file or the microphone, a waveform, lines of text, the real-time factor.

import { mono } from "./features.js";
import { Listener, Model } from "./recogniser.js";

const BLOCK = 0.1; // seconds
const SHOWN = 10; // seconds of the waveform
const $ = (id) => document.getElementById(id);
let microphone = null; // {stop} while it is on
let busy = true; // until the model is there

export const model = Model.load("./model/");
model.then(
  (m) => {
    $("name").textContent = `${m.d.source.model}, ${m.d.format}`;
    work(false);
    tell("Drop a sound file anywhere, or use the microphone.");
  },
  (error) => tell(`The model cannot be loaded: ${error.message}`));

const tell = (text) => { $("status").textContent = text; };
const clock = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(1).padStart(4, "0")}`;

// What is heard in blocks of samples, shown as it is heard.
class Session {
  constructor(m) {
    Object.assign(this, { m, listener: new Listener(m), audio: 0, busy: 0, wave: [], lines: [] });
    $("lines").replaceChildren();
  }

  async push(samples) {
    const started = performance.now();
    const segments = await this.listener.push(samples);
    this.busy += (performance.now() - started) / 1000;
    this.audio += samples.length / this.m.d.sampling_rate;
    this.show(segments, this.listener.partial().text);
    this.draw(samples);
  }

  async end() {
    const started = performance.now();
    const segments = await this.listener.end();
    this.busy += (performance.now() - started) / 1000;
    this.show(segments, "");
    return this.lines;
  }

  show(segments, partial) {
    for (const segment of segments) {
      this.lines.push(segment.text);
      const line = document.createElement("p"), time = document.createElement("time");
      time.textContent = clock(segment.start);
      line.append(time, " ", segment.text);
      $("lines").append(line);
    }
    $("partial").textContent = partial;
    if (this.audio) {
      tell(`${this.audio.toFixed(1)} s of audio in ${this.busy.toFixed(1)} s: RTF ${(this.busy / this.audio).toFixed(3)}`);
    }
  }

  // The last seconds, a column for each block.
  draw(samples) {
    const canvas = $("wave"), columns = SHOWN / BLOCK, pen = canvas.getContext("2d");
    this.wave.push(samples.reduce((most, x) => Math.max(most, Math.abs(x)), 0));
    this.wave = this.wave.slice(-columns);
    const width = canvas.width / columns, middle = canvas.height / 2;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = getComputedStyle(canvas).color;
    this.wave.forEach((most, i) => {
      const height = Math.max(1, most * middle);
      pen.fillRect(i * width, middle - height, width * 0.8, 2 * height);
    });
  }
}

// Transcribe the bytes of a sound file; returns its lines.
export async function transcribe(bytes) {
  const m = await model, rate = m.d.sampling_rate;
  const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes); // resamples
  const channels = Array.from({ length: sound.numberOfChannels }, (_, c) => sound.getChannelData(c));
  const samples = mono(channels), session = new Session(m), step = Math.round(BLOCK * rate);
  for (let start = 0, blocks = 0; start < samples.length; start += step, blocks++) {
    await session.push(samples.subarray(start, start + step));
    if (blocks % 10 === 9) await new Promise((then) => setTimeout(then)); // the page is painted
  }
  return session.end();
}

// The model hears one sound at a time; meanwhile nothing but the microphone can be stopped.
function work(on) {
  busy = on;
  $("file").disabled = on;
  $("microphone").disabled = on && !microphone;
}

async function transcribeFile(file) {
  if (busy) return;
  work(true);
  try {
    await transcribe(await file.arrayBuffer());
  } catch (error) {
    tell(`${file.name}: ${error.message}`);
  }
  $("file").value = ""; // the same file may be chosen again
  work(false);
}

async function listen() {
  const m = await model, rate = m.d.sampling_rate;
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext({ sampleRate: rate }); // resamples
  await context.audioWorklet.addModule("./capture.js");
  const capture = new AudioWorkletNode(context, "capture", { processorOptions: { size: Math.round(BLOCK * rate) } });
  const session = new Session(m);
  let last = Promise.resolve();
  capture.port.onmessage = ({ data }) => { last = last.then(() => session.push(data)); };
  context.createMediaStreamSource(stream).connect(capture);
  microphone = {
    stop: async () => {
      stream.getTracks().forEach((track) => track.stop());
      await context.close();
      await last;
      await session.end();
    },
  };
}

$("microphone").onclick = async () => {
  const stop = microphone?.stop;
  microphone = null;
  work(true);
  try {
    await (stop ? stop() : listen());
  } catch (error) {
    tell(`The microphone cannot be used: ${error.message}`);
  }
  work(microphone !== null);
  $("microphone").textContent = microphone ? "Stop" : "Microphone";
};
$("file").onchange = ({ target }) => target.files[0] && transcribeFile(target.files[0]);
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) transcribeFile(event.dataTransfer.files[0]);
};
