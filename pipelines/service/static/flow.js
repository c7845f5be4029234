// Follows one flow: its state comes as markup that the service has escaped, its log as text that is never markup.

// The same version of it: browsers keep what has the same address for a day.
const { follow } = await import(`./follow.js${new URL(import.meta.url).search}`);

const state = document.querySelector("#state");
const log = document.querySelector("#log");
const connection = document.querySelector("#connection");
const MOST_CHARACTERS = 400_000; // in the page; all of it is in the file

follow(state.dataset.stream, connection, {
  state: data => { state.innerHTML = data.html; },
  log: data => {
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.textContent = (log.textContent + data.text).slice(-MOST_CHARACTERS);
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  },
});
log.scrollTop = log.scrollHeight;
