// Loads the page again when the order's state changes, as after a postback.
const state = document.getElementById("state");

async function look() {
  try {
    const response = await fetch(state.dataset.url, { cache: "no-store" });
    const now = await response.json();
    if (now.state !== state.textContent) return location.reload();
  } catch {
    // The page is being left, or the shop cannot be reached: look again later.
  }
  setTimeout(look, 1000);
}

look();
