/* Warns the owner of an idle server before it is stopped. Written by hand as the module federation container that
   JupyterLab loads: there is nothing to build, and JupyterLab's own modules come from its share scope. */
(() => {
  'use strict';

  const NAME = 'workbench-idle';
  const RETRY_SECONDS = 60; // while the server does not answer
  let shareScope;

  async function shared(name) {
    const [offered] = Object.values(shareScope[name]);
    return (await offered.get())();
  }

  function time(text) {
    return new Date(text).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  }

  function activate(app, { Notification }, { ServerConnection }, { URLExt }) {
    const settings = app.serviceManager.serverSettings;
    const address = URLExt.join(settings.baseUrl, 'workbench', 'activity');
    let shown = null; // the notification that is open, and the time that it names
    let timer = 0;

    async function ask(method) {
      const response = await ServerConnection.makeRequest(address, { method }, settings);
      return response.ok ? response.json() : null;
    }

    function hide() {
      if (shown) {
        Notification.dismiss(shown.id);
        shown = null;
      }
    }

    function warn(answer) {
      if (shown && shown.stopsAt === answer.stops_at) {
        return;
      }
      hide();
      const id = Notification.emit(
        `This server will be stopped at ${time(answer.stops_at)} because nothing has run since ${time(answer.last_activity)}.`,
        'warning',
        { autoClose: false, actions: [{ label: 'Keep it running', displayType: 'accent', callback: keep }] }
      );
      shown = { id, stopsAt: answer.stops_at };
    }

    async function keep() {
      try {
        const answer = await ask('POST');
        if (!answer) {
          throw new Error('refused');
        }
        hide();
        Notification.emit('This server keeps running.', 'success', { autoClose: 5000 });
      } catch {
        Notification.emit('The server could not be told to keep running. Run a cell, or reload the page.', 'error');
      }
    }

    async function poll() {
      clearTimeout(timer);
      let seconds = RETRY_SECONDS;
      try {
        const answer = await ask('GET');
        if (answer) {
          seconds = answer.poll_seconds;
          answer.is_near ? warn(answer) : hide();
        }
      } catch {
        // JupyterLab itself says that the server is away.
      }
      timer = setTimeout(poll, seconds * 1000);
    }

    // Browsers slow down the timers of hidden tabs: whoever comes back sees at once how it stands.
    document.addEventListener('visibilitychange', () => document.hidden || poll());
    void app.restored.then(poll);
  }

  async function load() {
    const [apputils, services, coreutils] = await Promise.all(
      ['@jupyterlab/apputils', '@jupyterlab/services', '@jupyterlab/coreutils'].map(shared)
    );
    const plugin = {
      id: `${NAME}:plugin`,
      description: 'Warns the owner of an idle server before it is stopped.',
      autoStart: true,
      activate: app => activate(app, apputils, services, coreutils)
    };
    return () => ({ __esModule: true, default: plugin });
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = {
    init: scope => {
      shareScope = scope;
    },
    get: load
  };
})();
