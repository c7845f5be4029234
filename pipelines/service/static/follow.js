// Follows a stream of server-sent events for as long as the page is open, and says when it cannot.
//
// An EventSource gives up when it is answered anything but a stream, as by a proxy while the service is started again.
// So each break is seen to here: the stream is asked for anew, from where it was, after a wait that grows.

const FIRST_WAIT = 1_000; // milliseconds
const LONGEST_WAIT = 30_000;
const ANSWERED = 10_000;
const LOST = "Disconnected: what you see may be old. This page tries again by itself, at least every 30 seconds.";
const SHOWN_OUT = "You are logged out, or may not see this any more. Log in again: reload the page.";

// Calls listeners, by name of the event, with its data; `connection` is the element for what there is to say.
// Returns what ends it.
export function follow(address, connection, listeners) {
  let stream = null;
  let wait = FIRST_WAIT;
  let last = "";

  function begin() {
    const from = new URL(address, location.href);
    if (last) from.searchParams.set("after", last);
    stream = new EventSource(from);
    stream.addEventListener("open", () => {
      wait = FIRST_WAIT;
      say("");
    });
    stream.addEventListener("error", again);
    for (const [name, listener] of Object.entries(listeners)) {
      stream.addEventListener(name, event => {
        last = event.lastEventId;
        listener(JSON.parse(event.data));
      });
    }
  }

  async function again() {
    const isRefused = stream.readyState === EventSource.CLOSED;
    stream.close();
    if (!connection.textContent) say(LOST);
    if (isRefused) say(await isShownOut(address) ? SHOWN_OUT : LOST);
    setTimeout(begin, wait);
    wait = Math.min(2 * wait, LONGEST_WAIT);
  }

  // What is said already is not said again to those who listen.
  function say(text) {
    if (connection.textContent !== text) connection.textContent = text;
  }

  begin();
  return () => stream.close();
}

// An EventSource does not tell what it was answered.
async function isShownOut(address) {
  try {
    const answer = await fetch(address, { method: "HEAD", redirect: "manual", signal: AbortSignal.timeout(ANSWERED) });
    return answer.status === 401 || answer.status === 403;
  } catch {
    return false;
  }
}
