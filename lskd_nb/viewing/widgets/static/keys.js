// Keys of a frame: heard anywhere inside it but in fields that are typed into, and kept from the notebook's own shortcuts.
const TYPED = "input:not([type=range]):not([type=checkbox]):not([type=button]), textarea, select, [contenteditable=true]";

function render({ model, el }) {
  el.classList.add("loc-keys");
  el.textContent = model.get("hint");
  let frame = null;
  const heard = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest(TYPED)) {
      const line = event.key === "Enter" && event.target.closest("input") && model.get("heard").includes("Enter");
      if (line) setTimeout(() => model.send({ key: "Enter" }), 60); // after the field's own change has been sent
      return;
    }
    const slider = event.target.closest("[role=slider], .noUi-handle, input[type=range]");
    if (slider && event.key.startsWith("Arrow")) return; // arrows move the slider
    const pressed = event.target.closest("button");
    if (pressed && !pressed.closest(".widget-toggle-buttons") && (event.key === "Enter" || event.key === " ")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!model.get("heard").includes(key)) return;
    event.preventDefault();
    event.stopPropagation();
    model.send({ key });
  };
  const attach = () => {
    frame = el.closest(".loc-frame");
    if (!frame) return false;
    frame.tabIndex = 0;
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", model.get("label"));
    frame.dataset.lmSuppressShortcuts = "true"; // JupyterLab's commands
    frame.addEventListener("keydown", heard, true); // before the fields, which keep keys to themselves
    return true;
  };
  let tries = 0;
  const waiting = setInterval(() => { if (attach() || ++tries > 100) clearInterval(waiting); }, 50); // the frame is around it a little later
  return () => {
    clearInterval(waiting);
    if (frame) frame.removeEventListener("keydown", heard, true);
  };
}

export default { render };
