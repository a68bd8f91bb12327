// The search runs in a Web Worker, which browsers refuse to start on pages opened from disk. There
// this class stands in for it: it runs the worker's script in a hidden frame of the page.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      this.ready = new Promise((resolve, reject) => {
        const script = inside.document.createElement("script");
        script.src = new URL(url, document.baseURI);
        script.onload = resolve;
        script.onerror = reject;
        // What the script posts arrives here, as from a worker.
        inside.postMessage = (data) => this.receive(data);
        inside.document.head.append(script);
      });
      this.deliver = (data) => inside.dispatchEvent(new inside.MessageEvent("message", { data }));
      this.terminate = () => frame.remove();
    }

    postMessage(data) {
      this.ready.then(() => this.deliver(data));
    }

    receive(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      if (typeof this.onmessage === "function") this.onmessage(event);
    }
  };
}
