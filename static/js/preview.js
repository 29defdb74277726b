// Says anew what a change will hit, and what empty fields inherit, whenever where it holds is chosen;
// without it, the page says so when the form comes back.

const form = document.querySelector("form[data-preview]");

async function refresh() {
  const places = new URLSearchParams();
  for (const select of form.querySelectorAll("select")) {
    if (select.value) places.set(select.name, select.value);
  }
  const answer = await fetch(`${location.pathname}?${places}`, { credentials: "same-origin" });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const facts = page.getElementById(form.dataset.preview);
  if (facts) document.getElementById(form.dataset.preview)?.replaceChildren(...facts.childNodes);
  for (const newer of page.querySelectorAll("form[data-preview] [name]")) showInherited(newer);
}

function showInherited(newer) {
  const field = form.elements.namedItem(newer.name);
  if (newer.placeholder) field.placeholder = newer.placeholder;
  const [empty] = newer.options ?? [];
  if (empty?.value === "") field.options[0].textContent = empty.textContent;
}

form?.addEventListener("change", (event) => {
  if (event.target instanceof HTMLSelectElement) refresh();
});
