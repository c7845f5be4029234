/* Opens the pages of panels from the launcher and from the palette of commands, each in a tab of its own. Which there
   are is said by workbench.panels.pages in the user's server; without it there are none. Written by hand as the module
   federation container that JupyterLab loads: there is nothing to build, and JupyterLab's own modules come from its
   share scope. */
(() => {
  'use strict';

  const NAME = 'workbench-panels';
  const CATEGORY = 'Workbench';
  const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" width="16">
    <path class="jp-icon3" fill="#616161" d="M1 2h14v12H1V2zm1.5 3v7.5h11V5h-11zM4 11V8.5h1.6V11H4zm3.2 0V6.5h1.6V11H7.2zm3.2 0V7.6H12V11h-1.6z"/>
  </svg>`;
  let shareScope;

  /** A module of JupyterLab. */
  async function shared(name) {
    const [offered] = Object.values(shareScope[name]);
    return (await offered.get())();
  }

  /** Add a command for each panel, to the launcher and to the palette. */
  function activate({ commands }, launcher, palette, { PageConfig, URLExt }, { LabIcon }) {
    const icon = new LabIcon({ name: `${NAME}:panel`, svgstr: ICON });
    const panels = JSON.parse(PageConfig.getOption('workbenchPanels') || '{}');
    for (const [rank, [name, title]] of Object.entries(Object.entries(panels))) {
      const command = `${NAME}:${name}`;
      const address = URLExt.join(PageConfig.getBaseUrl(), 'workbench', 'panels', name);
      commands.addCommand(command, {
        label: title,
        caption: `Open the panel ${title} in a new tab`,
        icon,
        // The page is given no hand on this one. It is told who leads there: others may not.
        execute: () => void window.open(address, '_blank', 'noopener')
      });
      launcher?.add({ command, category: CATEGORY, rank: Number(rank) });
      palette?.addItem({ command, category: CATEGORY });
    }
  }

  async function load() {
    const names = ['apputils', 'coreutils', 'launcher', 'ui-components'].map(each => `@jupyterlab/${each}`);
    const [apputils, coreutils, launcher, components] = await Promise.all(names.map(shared));
    const plugin = {
      id: `${NAME}:plugin`,
      description: 'Opens panels from the launcher.',
      autoStart: true,
      optional: [launcher.ILauncher, apputils.ICommandPalette],
      activate: (app, launcher, palette) => activate(app, launcher, palette, coreutils, components)
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
