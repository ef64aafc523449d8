// What the search of these pages needs beside Material's own.
//
// 1. Words that only make a sentence of a query ("how do I ...?") are left out: the search would look
//    for titles that begin with them.
// 2. A page that is opened from the disk may not start a worker. There a hidden frame runs the
//    worker's script in its place.

const FILLERS = new Set(
  "a an and any are as at be by can could do does for from get give have how i if in is it me my of on or"
    .concat(" should so that the there this to want was what when where which while why will with would you")
    .split(" ")
);

function essence(query) {
  const words = query.split(/[\s?!,;]+/).filter((word) => word !== "");
  const telling = words.filter((word) => !FILLERS.has(word.toLowerCase()));
  // The last word may still be in the making, and a query of fillers alone stays as it is.
  return telling.length > 0 ? telling.join(" ") : query;
}

class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    document.body.append(frame);
    this.inside = frame.contentWindow;
    window.addEventListener("message", (event) => {
      if (event.source === this.inside) {
        this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      }
    });
    const page = this.inside.document;
    page.open();
    page.write("<script>postMessage = (message) => parent.postMessage(message, '*')</script>");
    page.write(`<script src="${url}"></script>`);
    page.close();
    this.ready = new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }));
  }

  postMessage(message) {
    this.ready.then(() =>
      this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data: message }))
    );
  }
}

const Native = window.Worker;

class Searcher extends (location.protocol === "file:" ? FrameWorker : Native) {
  postMessage(message) {
    const isQuery = message.type === 2;
    super.postMessage(isQuery ? { ...message, data: essence(message.data) } : message);
  }
}

// A worker of a page's own code, which is no file, runs from the disk, too.
window.Worker = class {
  constructor(url) {
    return new (String(url).startsWith("blob:") ? Native : Searcher)(url);
  }
};
