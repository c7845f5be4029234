// Follows one run: states come as markup that the service has escaped, outputs as text that is never markup.

// The same version of it: browsers keep what has the same address for a day.
const { follow } = await import(`./follow.js${new URL(import.meta.url).search}`);

const steps = document.querySelector("#steps");
const output = document.querySelector("#output");
const connection = document.querySelector("#connection");
const frame = document.querySelector("iframe");
const MOST_CHARACTERS = 400_000; // of one cell's text in the page; all of it is in the notebook
const places = new Map();

function placeOf(attempt, cell) {
  const key = `${attempt} ${cell}`;
  if (!places.has(key)) places.set(key, { box: newBox(attempt, cell), clears: false, last: null });
  return places.get(key);
}

function newBox(attempt, cell) {
  const id = `attempt-${attempt}`;
  let section = document.getElementById(id);
  if (!section) {
    section = output.appendChild(document.createElement("section"));
    section.id = id;
    section.appendChild(document.createElement("h3")).textContent = `Attempt ${attempt}`;
  }
  const box = section.appendChild(document.createElement("div"));
  if (cell !== null) box.appendChild(document.createElement("h4")).textContent = `Cell ${cell + 1}`;
  return box.appendChild(document.createElement("div"));
}

function write(place, name, text) {
  let pre = place.last;
  if (!pre || pre.className !== name) {
    pre = place.box.appendChild(document.createElement("pre"));
    pre.className = name;
    place.last = pre;
  }
  const isAtEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
  const before = pre.textContent;
  if (text.includes("\r") || before.endsWith("\r") || before.length + text.length > MOST_CHARACTERS) {
    pre.textContent = returned(before + text).slice(-MOST_CHARACTERS);
  } else {
    pre.append(text);
  }
  if (isAtEnd) pre.scrollTop = pre.scrollHeight;
}

// A carriage return begins the line again, as progress bars want it. One at the very end waits for what follows.
function returned(text) {
  return text.replaceAll("\r\n", "\n").split("\n").map(line => {
    const at = line.lastIndexOf("\r", line.length - 2);
    return at < 0 ? line : line.slice(at + 1);
  }).join("\n");
}

function show(attempt, item) {
  if (item.kind === "omitted") {
    write(placeOf(attempt, null), "note", `[${item.bytes.toLocaleString()} bytes of earlier output are in the notebook]\n`);
    return;
  }
  const place = placeOf(attempt, item.cell);
  if (item.kind === "cleared") {
    if (item.wait) place.clears = true;
    else clear(place);
    return;
  }
  if (place.clears) clear(place);
  if (item.kind === "text") write(place, item.name, item.text);
  if (item.kind === "image") {
    const image = place.box.appendChild(document.createElement("img"));
    image.src = item.source;
    image.alt = "picture that the cell has put out";
    place.last = null;
  }
}

function clear(place) {
  place.box.replaceChildren();
  place.last = null;
  place.clears = false;
}

const stop = follow(steps.dataset.stream, connection, {
  state: data => { steps.innerHTML = data.html; },
  output: ({ attempt, items }) => {
    for (const item of items) show(attempt, item);
  },
  ended: () => {
    stop();
    const links = steps.querySelectorAll('a[target="output"]');
    if (links.length) frame.src = links[links.length - 1].href;
  },
});
steps.addEventListener("click", event => {
  if (event.target.closest('a[target="output"]')) frame.classList.add("shown");
});
