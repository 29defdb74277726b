// Says, while somebody connects a first service, as soon as one of its instances was heard.

const LOOK_SECONDS = 2;

class Heard extends HTMLElement {
  connectedCallback() {
    this.line = this.querySelector(".hf-heard");
    this.line.textContent = this.dataset.waiting;
    this.timer = setInterval(() => this.look(), LOOK_SECONDS * 1000);
  }

  disconnectedCallback() {
    clearInterval(this.timer);
  }

  async look() {
    if (document.hidden) return;
    const query = new URLSearchParams({ environment: this.dataset.environment, limit: 1 });
    const answer = await fetch(`/api/v1/instances?${query}`, { credentials: "same-origin" });
    if (!answer.ok) return;
    const [instance] = (await answer.json()).results;
    if (instance) this.show(instance);
  }

  show(instance) {
    clearInterval(this.timer);
    this.line.textContent = `✓ ${this.dataset.heard} ${instance.service}: ${instance.name || instance.id}`;
    this.line.classList.add("hf-heard-yes");
    setTimeout(() => location.reload(), LOOK_SECONDS * 1000);
  }
}

customElements.define("hf-heard", Heard);
