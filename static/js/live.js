// A part of a page that is fetched anew every two seconds, until it says that it is over.

const EVERY_MS = 2000;

class Live extends HTMLElement {
  connectedCallback() {
    this.timer = setInterval(() => this.refresh(), EVERY_MS);
  }

  disconnectedCallback() {
    clearInterval(this.timer);
  }

  async refresh() {
    if (document.hidden || this.asking) return;
    if (this.querySelector('[data-over="1"]')) {
      clearInterval(this.timer);
      return;
    }
    this.asking = true;
    try {
      const answer = await fetch(this.dataset.from, { redirect: "error" });
      if (answer.ok) this.innerHTML = await answer.text();
    } catch {
      // The server is away: what is shown stays, and the next look is in two seconds.
    } finally {
      this.asking = false;
    }
  }
}

customElements.define("hf-live", Live);
