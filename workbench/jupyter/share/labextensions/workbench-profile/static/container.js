/* Shows who is logged in, at the right of JupyterLab's menus. Written by hand as the module federation container
   that JupyterLab loads: there is nothing to build, and JupyterLab's own modules come from its share scope. */
(() => {
  'use strict';

  const NAME = 'workbench-profile';
  const PICTURE = /^(https:|data:image\/)/; // what the policy lets through
  let shareScope;

  async function shared(name) {
    const [offered] = Object.values(shareScope[name]);
    return (await offered.get())();
  }

  async function activate(app, { Widget }) {
    const user = app.serviceManager.user;
    await user.ready;
    const { username, display_name: name, avatar_url: picture } = user.identity;
    const node = document.createElement('div');
    node.title = username;
    node.style.cssText = 'display: flex; align-items: center; justify-content: flex-end; gap: 6px; padding: 0 12px; white-space: nowrap;';
    if (PICTURE.test(picture)) {
      const image = node.appendChild(document.createElement('img'));
      image.src = picture;
      image.alt = '';
      image.style.cssText = 'width: 20px; height: 20px; border-radius: 50%;';
    }
    node.append(name || username);
    const widget = new Widget({ node });
    widget.id = NAME;
    app.shell.add(widget, 'top', { rank: 1000 });
  }

  async function load() {
    const widgets = await shared('@lumino/widgets');
    const plugin = {
      id: `${NAME}:plugin`,
      description: 'Shows who is logged in.',
      autoStart: true,
      // Lab does not wait for a provider's profile.
      activate: app => void activate(app, widgets)
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
