// Of the settings of all kinds of checks, shows those of the kind that is chosen.

const kind = document.querySelector("select[name=kind]");

function show() {
  for (const field of kind.form.elements) {
    if (!field.name.includes(".")) continue;
    field.closest(".hf-field").hidden = !field.name.startsWith(`${kind.value}.`);
  }
}

kind.addEventListener("change", show);
show();
