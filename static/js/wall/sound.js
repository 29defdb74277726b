// A sound when a critical alert begins; off until somebody turns it on, remembered in this browser.

import { gettext } from "../words.js";
import { show } from "./slots.js";

const KEY = "holdfast-sound";
const TONES = [880, 660, 880]; // hertz
const TONE_SECONDS = 0.22;

export class Sound {
  /** `say` tells those who listen to the page what became of the switch. */
  constructor(button, say) {
    this.button = button;
    this.say = say;
    button.addEventListener("click", () => this.toggle());
    this.isOn = localStorage.getItem(KEY) === "on";
    this.show();
    // A browser lets no page sound before somebody has touched it.
    const wake = () => this.isOn && this.start();
    addEventListener("pointerdown", wake, { once: true });
    addEventListener("keydown", wake, { once: true });
    if (this.isOn) this.start();
  }

  toggle() {
    this.isOn = !this.isOn;
    localStorage.setItem(KEY, this.isOn ? "on" : "off");
    this.show();
    this.say(this.isOn ? gettext("Sound is on") : gettext("Sound is off"));
    if (this.isOn) this.alarm(); // so that one knows how loud it is
  }

  show() {
    this.button.setAttribute("aria-pressed", String(this.isOn));
    const isHeld = this.isOn && this.context?.state !== "running";
    show(this.button, { on: this.isOn, off: !this.isOn, held: isHeld });
  }

  start() {
    this.context ??= new AudioContext();
    this.context.onstatechange = () => this.show();
    return this.context.resume().then(() => this.show());
  }

  async alarm() {
    if (!this.isOn) return;
    this.sounded = (this.sounded ?? 0) + 1;
    this.button.dataset.sounded = this.sounded;
    await this.start();
    TONES.forEach((tone, number) => this.play(tone, this.context.currentTime + number * TONE_SECONDS));
  }

  play(tone, at) {
    const [source, volume] = [this.context.createOscillator(), this.context.createGain()];
    source.frequency.value = tone;
    volume.gain.setValueAtTime(0.0001, at);
    volume.gain.exponentialRampToValueAtTime(0.4, at + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.0001, at + TONE_SECONDS);
    source.connect(volume).connect(this.context.destination);
    source.start(at);
    source.stop(at + TONE_SECONDS);
  }
}
