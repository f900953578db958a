// Makes a page follow the chain: what the node's event stream tells of is read anew.
"use strict";

const live = document.getElementById("live");
let stream = null;
let waiting = false;
let isReading = false;

function writeAge(seconds) {
  for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  return seconds >= 0 ? `${seconds} s ago` : `in ${-seconds} s`;
}

function writeAges() {
  const now = Math.floor(Date.now() / 1000);
  for (const time of document.querySelectorAll("time[data-seconds]")) {
    if (time.dateTime) time.title = time.dateTime;
    time.textContent = writeAge(now - Number(time.dataset.seconds));
  }
}

// One reading at a time; whatever happens during it leads to one more.
async function read() {
  if (isReading) {
    waiting = true;
    return;
  }
  isReading = true;
  try {
    const answer = await fetch(location.href);
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("main").replaceChildren(...page.querySelector("main").childNodes);
      writeAges();
    }
  } catch {
    live.textContent = "offline";
  }
  isReading = false;
  if (waiting) {
    waiting = false;
    read();
  }
}

// A node has few places for streams: a page that nobody sees takes none.
function follow() {
  if (document.hidden) {
    stream?.close();
    stream = null;
    return;
  }
  if (stream) return;
  stream = new EventSource("/v1/events");
  stream.onopen = () => { live.textContent = "live"; };
  stream.onerror = () => { live.textContent = "offline"; };
  for (const kind of ["tip", "reorganisation", "transaction", "reset"]) {
    stream.addEventListener(kind, read);
  }
}

writeAges();
setInterval(writeAges, 1000);
document.addEventListener("visibilitychange", follow);
follow();
