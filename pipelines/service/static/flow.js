// Follows one flow: its state comes as markup that the service has escaped, its log as text that is never markup.

const state = document.querySelector("#state");
const log = document.querySelector("#log");
const connection = document.querySelector("#connection");
const MOST_CHARACTERS = 400_000; // in the page; all of it is in the file

const stream = new EventSource(state.dataset.stream);
stream.addEventListener("open", () => { connection.textContent = ""; });
stream.addEventListener("error", () => {
  connection.textContent = stream.readyState === EventSource.CLOSED
    ? "The connection is closed. Reload the page." : "The connection broke; it is being made again.";
});
stream.addEventListener("state", event => { state.innerHTML = JSON.parse(event.data).html; });
stream.addEventListener("log", event => {
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.textContent = (log.textContent + JSON.parse(event.data).text).slice(-MOST_CHARACTERS);
  if (isAtEnd) log.scrollTop = log.scrollHeight;
});
log.scrollTop = log.scrollHeight;
