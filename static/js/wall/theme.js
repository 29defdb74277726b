// Before the first paint: the theme the viewer chose here, else what their system prefers.
(() => {
  const key = "holdfast-theme";
  const chosen = localStorage.getItem(key);
  if (chosen) document.documentElement.dataset.theme = chosen;

  class ThemeToggle extends HTMLElement {
    connectedCallback() {
      this.addEventListener("click", () => {
        const root = document.documentElement;
        const prefersDark = matchMedia("(prefers-color-scheme: dark)").matches;
        const isDark = (root.dataset.theme || (prefersDark ? "dark" : "light")) === "dark";
        root.dataset.theme = isDark ? "light" : "dark";
        localStorage.setItem(key, root.dataset.theme);
      });
    }
  }
  customElements.define("theme-toggle", ThemeToggle);
})();
