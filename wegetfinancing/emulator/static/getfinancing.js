// The emulator's stand-in for the vendor's lightbox script, with the constructor the official plugins
// use: new GetFinancing(href, onComplete, onAbort). Neither callback proves anything: the postback decides.
(() => {
  class GetFinancing {
    constructor(href, onComplete, onAbort) {
      const origin = new URL(href, document.baseURI).origin;
      const dialog = document.createElement("dialog");
      dialog.setAttribute("aria-label", "Apply for financing");
      dialog.style.cssText =
        "width:min(40rem,100vw);height:min(46rem,100dvh);max-width:100vw;max-height:100dvh;padding:0;border:0;border-radius:.5rem;overflow:hidden";
      const close = document.createElement("button");
      close.type = "button";
      close.textContent = "×";
      close.setAttribute("aria-label", "Close");
      close.style.cssText =
        "position:absolute;top:.3rem;right:.3rem;width:2.75rem;height:2.75rem;min-height:0;padding:0;line-height:1;font-size:1.5rem;cursor:pointer;z-index:1";
      const frame = document.createElement("iframe");
      frame.src = href;
      frame.title = "Apply for financing";
      frame.style.cssText = "width:100%;height:100%;border:0";
      dialog.append(close, frame);

      let ended = false;
      const end = (callback) => {
        if (ended) return;
        ended = true;
        window.removeEventListener("message", listen);
        dialog.close();
        dialog.remove();
        if (typeof callback === "function") callback();
      };
      const listen = (event) => {
        if (event.source !== frame.contentWindow || event.origin !== origin) return;
        if (event.data?.getfinancing === "complete") end(onComplete);
        if (event.data?.getfinancing === "abort") end(onAbort);
      };
      window.addEventListener("message", listen);
      close.addEventListener("click", () => end(onAbort));
      dialog.addEventListener("cancel", (event) => {
        event.preventDefault();
        end(onAbort);
      });
      document.body.append(dialog);
      dialog.showModal();
    }
  }
  window.GetFinancing = GetFinancing;
})();
