// Shows what is new without a reload, and leaves focus, open details and chosen options alone.
const EVERY_MS = 1000;

function adopt(fresh) {
  const main = document.getElementById("main");
  const focused = document.activeElement?.id;
  for (const details of main.querySelectorAll("details[open]")) {
    fresh.getElementById(details.id)?.setAttribute("open", "");
  }
  const chosen = [...main.querySelectorAll("select")].map((select) => [select.id, select.value]);
  main.innerHTML = fresh.getElementById("main").innerHTML;
  for (const [id, value] of chosen) {
    const select = document.getElementById(id);
    if (select) select.value = value;
  }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

let shown = null;

async function look() {
  if (document.hidden || document.activeElement?.matches("select, input")) return;
  const response = await fetch(location.pathname + location.search, { cache: "no-store" });
  const text = await response.text();
  if (shown !== null && text !== shown) adopt(new DOMParser().parseFromString(text, "text/html"));
  shown = text;
}

async function keepLooking() {
  try {
    await look();
  } catch {
    // The emulator has stopped, or the page is being left: look again later.
  }
  setTimeout(keepLooking, EVERY_MS);
}

keepLooking();
