// Makes a page follow the chain: where the node's event stream tells of something, it is read anew.
"use strict";

const PAUSE_MS = 2000; // between two readings, at least
const JITTER_MS = 500; // before the first: not all pages at the very moment of a block
const RETRY_MS = 15000; // until a stream is asked for again that the node refused
const live = document.getElementById("live");
let shown = document.querySelector("main").innerHTML;
let stream = null;
let pause = null;
let isReading = false;
let isBehind = false;

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

function show(page) {
  const main = document.querySelector("main");
  const next = page.querySelector("main");
  main.dataset.tip = next.dataset.tip;
  document.title = page.title;
  // What has not changed stays as it is, whatever is selected in it.
  if (next.innerHTML === shown) return;
  shown = next.innerHTML;
  main.replaceChildren(...next.childNodes);
  writeAges();
}

async function read() {
  isReading = true;
  isBehind = false;
  try {
    const answer = await fetch(location.href);
    if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    if (stream?.readyState === EventSource.OPEN) live.textContent = "live";
  } catch (error) {
    console.warn(error);
    live.textContent = "offline";
  }
  isReading = false;
  rest(PAUSE_MS);
}

function rest(length) {
  pause = setTimeout(() => {
    pause = null;
    if (isBehind) read();
  }, length);
}

// However much happens during a reading and the pause behind it, one more reading is enough.
function note() {
  isBehind = true;
  if (!isReading && pause === null) rest(Math.random() * JITTER_MS);
}

function noteEvent(event) {
  const main = document.querySelector("main");
  const follows = main.dataset.follows.split(" ");
  // A stream begins with the tip, which the page may have been made at.
  const isKnown = event.type === "tip" && JSON.parse(event.data).id === main.dataset.tip;
  if (!isKnown && (follows.includes(event.type) || event.type === "reset")) note();
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
  stream.onerror = () => {
    live.textContent = "not live";
    if (stream?.readyState !== EventSource.CLOSED) return;
    stream = null;
    setTimeout(follow, RETRY_MS);
  };
  for (const kind of ["tip", "reorganisation", "transaction", "reset"]) {
    stream.addEventListener(kind, noteEvent);
  }
}

writeAges();
setInterval(writeAges, 1000);
if (document.querySelector("main").dataset.follows) {
  document.addEventListener("visibilitychange", follow);
  follow();
}
