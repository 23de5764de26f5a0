// In a lightbox the page must not follow the shop's success_url inside the frame: it tells the
// lightbox script instead, which closes the frame and calls the shop's callback.
if (window.parent !== window) {
  const finished = document.querySelector("[data-outcome]");
  if (finished) {
    window.parent.postMessage({ getfinancing: finished.dataset.outcome }, "*");
  }
  const decide = document.getElementById("decide");
  if (decide) {
    const then = document.createElement("input");
    then.type = "hidden";
    then.name = "then";
    then.value = "lightbox";
    decide.append(then);
  }
}
