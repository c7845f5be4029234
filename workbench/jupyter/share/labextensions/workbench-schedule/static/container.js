/* Makes a pipeline of a notebook: a dialog asks for its name, schedule and parameters, shows the file, and writes it
   into the project for review. Nothing is decided here: pipelines.jupyter in the user's server reads the notebook,
   checks what was typed, and writes. Written by hand as the module federation container that JupyterLab loads:
   there is nothing to build, and JupyterLab's own modules come from its share scope. */
(() => {
  'use strict';

  const NAME = 'workbench-schedule';
  const STYLE = new URL('schedule.css', document.currentScript.src).href;
  const PAUSE_MILLISECONDS = 300; // after the last key, before what was typed is checked
  const REFERENCES = { date: ['${run.day}', '${run.day_before}'], datetime: ['${run.instant}'] };
  const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" width="16">
    <path class="jp-icon3" fill="#616161" d="M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 1.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11zM7.2 4v4.5l3.4 2 .8-1.2-2.7-1.6V4z"/>
  </svg>`;
  const WHEN_IN_FORCE =
    'Commit it to the project. Once it is in the folder of the scheduler, it is taken over within five seconds.';
  let shareScope;
  let numberOfIds = 0;

  /** A module of JupyterLab. */
  async function shared(name) {
    const [offered] = Object.values(shareScope[name]);
    return (await offered.get())();
  }

  /**
   * An element.
   * @param {string} tag
   * @param {object} properties of the element; those with a dash are attributes
   * @param {...(Node|string)} children texts are never markup
   */
  function make(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      name.includes('-') ? node.setAttribute(name, value) : (node[name] = value);
    }
    node.append(...children);
    return node;
  }

  /**
   * A labelled field.
   * @param {string} label
   * @param {HTMLElement} input
   * @param {string} help shown below, and read out with the field
   */
  function field(label, input, help = '') {
    input.id = `${NAME}-${++numberOfIds}`;
    input.classList.add('jp-mod-styled');
    const row = make('div', { className: 'field' }, make('label', { htmlFor: input.id }, label), input);
    if (help) {
      row.append(make('small', { id: `${input.id}-help` }, help));
      input.setAttribute('aria-describedby', `${input.id}-help`);
    }
    return row;
  }

  /**
   * A text input.
   * @param {string} place the field of the definition that it stands for, as problems name it
   */
  function text(place, value = '', properties = {}) {
    return make('input', { type: 'text', value, spellcheck: false, autocomplete: 'off', 'data-place': place, ...properties });
  }

  /** A choice among texts. */
  function choice(place, values, value) {
    const options = values.map(each => make('option', { value: each, selected: each === value }, each));
    return make('select', { 'data-place': place }, ...options);
  }

  /** A box to tick, with its label behind it; hidden until there is something to agree to. Another question, or the same of something else, wants another tick. */
  function agreement() {
    const box = make('input', { type: 'checkbox', id: `${NAME}-${++numberOfIds}` });
    const label = make('label', { htmlFor: box.id });
    const row = make('div', { className: 'agreement', hidden: true }, box, label);
    const ask = (question, about = '') => {
      box.checked = box.checked && question === label.textContent && about === row.dataset.about;
      row.dataset.about = about;
      row.hidden = !question;
      label.textContent = question;
    };
    return { row, box, ask };
  }

  /** Show *children* in place of what is there, unless they say the same: what is replaced is read out. */
  function tell(node, children) {
    const fresh = make('div', {}, ...children);
    if (fresh.textContent !== node.textContent) {
      node.replaceChildren(...fresh.children);
    }
  }

  /** A name for the pipeline of a notebook. */
  function suggestedName(path) {
    const stem = path.split('/').pop().replace(/\.ipynb$/, '').toLowerCase();
    return stem.replace(/[^a-z0-9_]+/g, '-').replace(/^[-_]+/, '').slice(0, 50).replace(/[-_]+$/, '') || 'notebook';
  }

  /** The zone of the browser, and all that it knows. */
  function zones() {
    const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
    return { own: timeZone, all: [...new Set(['UTC', timeZone, ...Intl.supportedValuesOf('timeZone')])] };
  }

  /** Where the page of pipelines is; with subdomains a service has an origin of its own, as JupyterHub names them. */
  function pageOf(pipeline, PageConfig) {
    const origin = PageConfig.getOption('hubHost').replace('://', '://pipelines--service.');
    return `${origin}/services/pipelines/pipelines/${pipeline}/start`;
  }

  /** The form of a pipeline. `node` is shown; `check` asks the server, `write` has it write the file. */
  class Form {
    /**
     * @param {Function} ask see `asking`
     * @param {string} notebook its path, as the server has it
     * @param {string} owner whom to name as the owner
     */
    constructor(ask, notebook, owner) {
      this.ask = ask;
      this.notebook = notebook;
      this.checks = 0;
      this.parameters = null; // inputs by name, once the server has read the notebook
      this.makeInputs(owner);
      this.node = this.layOut();
      this.node.addEventListener('input', () => this.checkSoon());
    }

    makeInputs(owner) {
      const { own, all } = zones();
      this.inputs = {
        name: text('name', suggestedName(this.notebook)),
        description: text('description'),
        cron: text('schedule.cron', '0 6 * * *'),
        zone: choice('schedule.zone', all, own),
        retries: text('step.retries.times', '', { placeholder: '0', inputMode: 'numeric' }),
        wait: text('step.retries.wait', '', { placeholder: '10s' }),
        step_timeout: text('step.timeout', '', { placeholder: 'none' }),
        timeout: text('timeout', '', { placeholder: 'none' }),
        owner: text('owner', owner)
      };
      this.project = agreement();
      this.replacing = agreement();
    }

    layOut() {
      const { name, description, cron, zone, retries, wait, step_timeout, timeout, owner } = this.inputs;
      this.given = make('fieldset', { hidden: true }, make('legend', {}, 'Parameters'));
      this.instants = make('div', { 'aria-live': 'polite' });
      this.problems = make('ul', { className: 'problems', id: `${NAME}-problems`, 'aria-live': 'polite', 'aria-label': 'Problems' });
      this.yaml = make('pre', { tabIndex: 0, hidden: true, 'aria-label': 'The file' });
      const more = make(
        'details', {}, make('summary', {}, 'Retries, timeouts, owner'),
        field('Retries', retries, 'How often it is tried again after its kernel died, its worker was lost, or the machine failed.'),
        field('Wait before a retry', wait, 'Such as 30s or 10m; twice as long before each further one.'),
        field('Timeout of an attempt', step_timeout, 'Such as 30m or 1h30m.'),
        field('Timeout of a run', timeout),
        field('Owner', owner, 'A name or a group of the hub.')
      );
      return make(
        'div', { className: NAME },
        this.project.row,
        field('Name', name, 'At most 50 small letters and digits, with - and _ between them.'),
        field('Description', description),
        field('Schedule', cron, 'Minute, hour, day, month, weekday. Empty: only people start it.'),
        field('Time zone', zone),
        this.instants, this.given, more, this.replacing.row, this.problems, this.yaml
      );
    }

    /** What was typed, as the server takes it. */
    values() {
      const entries = Object.entries(this.inputs).map(([name, input]) => [name, input.value.trim()]);
      const parameters = Object.entries(this.parameters || {}).map(([name, input]) => [name, input.value]);
      return { notebook: this.notebook, ...Object.fromEntries(entries), parameters: Object.fromEntries(parameters) };
    }

    checkSoon() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => void this.check(), PAUSE_MILLISECONDS);
    }

    /** Have the server look at what was typed, and show what it says, unless something else was typed meanwhile. */
    async check() {
      clearTimeout(this.timer);
      const number = ++this.checks;
      try {
        const answer = await this.ask('POST', 'check', this.values());
        if (number === this.checks) {
          this.show(answer);
        }
      } catch (error) {
        this.showProblems([{ field: '', message: error.message }]);
      }
    }

    /**
     * Write the file of what stands in the form now.
     * @returns {Promise<string|null>} its path; null when it was refused, which is then shown
     */
    async write() {
      const values = this.values();
      await this.check();
      const number = this.checks;
      const agreed = { replaces: this.replacing.box.checked ? this.found : '', makes_project: this.project.box.checked };
      try {
        return (await this.ask('PUT', 'file', { ...values, ...agreed })).path;
      } catch (error) {
        if (number === this.checks) {
          this.showRefusal(error);
        }
        return null;
      }
    }

    show(answer) {
      this.found = answer.found;
      this.yaml.textContent = answer.yaml;
      const folder = answer.folder || 'the uppermost folder';
      this.project.ask(
        answer.is_project ? '' : `${answer.notebook} is in no project: no folder above it has pipelines/jobs. Make ${folder} one.`
      );
      // The tick is for the file as it was then: somebody else may have changed it since.
      this.replacing.ask(answer.found ? `${answer.file} is there already. Replace it.` : '', answer.found);
      if (!this.parameters) {
        this.showParameters(answer.parameters);
      }
      this.showInstants(answer.next);
      this.showProblems(answer.problems);
    }

    showParameters(parameters) {
      this.parameters = {};
      this.given.hidden = !parameters.length;
      for (const each of parameters) {
        const input = this.parameterInput(each);
        this.parameters[each.name] = input;
        this.given.append(field(`${each.name}: ${each.type}`, input, each.description));
        if (each.type.split(' ')[0] in REFERENCES) {
          this.offer(input, REFERENCES[each.type.split(' ')[0]]);
        }
      }
    }

    parameterInput({ name, default: value, choices, is_required: isRequired }) {
      const place = `schedule.parameters.${name}`;
      return choices.length ? choice(place, isRequired ? ['', ...choices] : choices, value) : text(place, value);
    }

    /** Offer what a run knows of itself, beside anything that is typed. */
    offer(input, values) {
      const list = make('datalist', { id: `${input.id}-offers` }, ...values.map(value => make('option', { value })));
      input.after(list);
      input.setAttribute('list', list.id);
    }

    showInstants(instants) {
      const rows = instants.map(({ local, utc }) => make('tr', {}, make('td', {}, local), make('td', {}, utc)));
      const head = make('tr', {}, make('th', { scope: 'col' }, this.inputs.zone.value), make('th', { scope: 'col' }, 'UTC'));
      const table = make('table', {}, make('caption', {}, 'The next five instants'), make('thead', {}, head), make('tbody', {}, ...rows));
      tell(this.instants, rows.length ? [table] : []);
    }

    showProblems(problems) {
      const places = problems.map(each => each.field.replace(/^steps\.[^.]+/, 'step').replace(/^parameters\./, 'schedule.parameters.'));
      for (const input of this.node.querySelectorAll('[data-place]')) {
        input.setAttribute('aria-invalid', places.some(place => `${place}.`.startsWith(`${input.dataset.place}.`)));
        input.setAttribute('aria-errormessage', this.problems.id);
      }
      const told = problems.map(each => make('li', {}, each.field ? `${each.field}: ${each.message}` : each.message));
      tell(this.problems, told);
    }

    /** Say why nothing was written, unless a problem already does, and go to what has to be put right. */
    showRefusal(error) {
      if (!this.problems.children.length) {
        this.showProblems([{ field: '', message: error.message }]);
      }
      const wrong = this.node.querySelector('[aria-invalid=true]') || this.node.querySelector('.agreement:not([hidden]) input');
      wrong?.closest('details')?.setAttribute('open', '');
      wrong?.focus();
    }
  }

  /**
   * A function that asks this user's server.
   * @returns {function(string, string, object=): Promise<object>} of a method, an address below workbench/pipelines, and
   *   a body; its error says what was refused, and the remedy
   */
  function asking(settings, { ServerConnection }, { URLExt }) {
    const address = URLExt.join(settings.baseUrl, 'workbench', 'pipelines');
    return async (method, path, body) => {
      const request = { method, ...(body ? { body: JSON.stringify(body) } : {}) };
      const separator = path.startsWith('?') ? '' : '/';
      const response = await ServerConnection.makeRequest(`${address}${separator}${path}`, request, settings);
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) {
        throw new Error([`${answer.message || `the server answered ${response.status}`}.`, answer.remedy].filter(Boolean).join(' '));
      }
      return answer;
    };
  }

  /** Ask for the pipeline of a notebook until its file is written, or nobody wants it any more. */
  function askForPipeline(form, { Dialog }, { Widget }, written) {
    const dialog = new Dialog({
      title: 'Schedule this notebook',
      body: new Widget({ node: form.node }),
      buttons: [
        Dialog.cancelButton(),
        Dialog.cancelButton({ label: 'Show the YAML' }),
        Dialog.okButton({ label: 'Write it' })
      ],
      defaultButton: 2,
      focusNodeSelector: 'input[data-place=name]'
    });
    dialog.addClass(`${NAME}-dialog`);
    const close = dialog.resolve.bind(dialog);
    // JupyterLab's dialogs end with any button; this one stays until the file is written.
    dialog.resolve = async (button = 2) => {
      if (button === 1) {
        form.yaml.hidden = !form.yaml.hidden;
        form.yaml.scrollIntoView({ block: 'end' });
        return;
      }
      const path = button === 2 ? await form.write() : '';
      if (path !== null) {
        close(button);
        path && written(path);
      }
    };
    void form.check();
    return dialog.launch();
  }

  /** What is said of one pipeline that runs the notebook, and where it can be run. */
  function aboutPipeline({ name, is_deployed: isDeployed, is_same: isSame }, PageConfig) {
    if (!isDeployed) {
      return make('p', {}, make('strong', {}, name), ` is not deployed yet. ${WHEN_IN_FORCE}`);
    }
    const link = PageConfig.getOption('hubPrefix')
      ? make('a', { href: pageOf(name, PageConfig), target: '_blank', rel: 'noopener', className: 'jp-Link' }, `Run ${name} now`)
      : make('code', {}, `workbench pipelines run ${name}`);
    return make('p', {}, link, isSame ? '' : ' It runs what is deployed, which is not what you have here.');
  }

  /** Show the pipelines of a notebook with the way to run them; resolves to whether a new one is wanted. */
  async function showPipelines(ask, path, { Dialog }, { PageConfig }, { Widget }) {
    const { notebook, pipelines } = await ask('GET', `?notebook=${encodeURIComponent(path)}`);
    const told = pipelines.map(each => aboutPipeline(each, PageConfig));
    const node = make('div', { className: NAME }, ...(told.length ? told : [make('p', {}, `No pipeline runs ${notebook} yet.`)]));
    const dialog = new Dialog({
      title: 'Run as pipeline now',
      body: new Widget({ node }),
      buttons: [Dialog.cancelButton({ label: 'Close' }), Dialog.okButton({ label: 'Schedule this notebook' })],
      focusNodeSelector: 'a'
    });
    return (await dialog.launch()).button.accept;
  }

  /** Add the commands; the settings of the plugin say in which toolbar and menu they are. */
  function activate(app, tracker, files, palette, modules) {
    const { apputils, services, coreutils, widgets, components } = modules;
    const { commands, serviceManager } = app;
    const ask = asking(serviceManager.serverSettings, services, coreutils);
    const icon = new components.LabIcon({ name: `${NAME}:clock`, svgstr: ICON });
    document.head.append(make('link', { rel: 'stylesheet', href: STYLE }));

    /** The path of the notebook that is meant: the one selected in the file browser, or the current one. */
    const meant = ({ isSelected }) =>
      isSelected ? [...(files.tracker.currentWidget?.selectedItems() ?? [])][0]?.path : tracker.currentWidget?.context.path;

    /** The path on the server's disk, once the notebook is saved if it is open: a pipeline runs what is in the file. */
    async function saved(path) {
      const { contents } = serviceManager;
      if (!['', 'RTC'].includes(contents.driveName(path))) {
        throw new Error(`${path} is not on the disk of this server.`);
      }
      const open = tracker.find(panel => panel.context.path === path);
      if (open?.context.model.dirty) {
        await open.context.save();
      }
      return contents.localPath(path);
    }

    function tellWritten(path) {
      const open = { label: 'Open it', callback: () => void commands.execute('docmanager:open', { path }) };
      apputils.Notification.success(`${path} is written. Commit it: it is in force once it is deployed.`, { autoClose: false, actions: [open] });
    }

    async function schedule(args) {
      const form = new Form(ask, await saved(meant(args)), coreutils.PageConfig.getOption('hubUser'));
      await askForPipeline(form, apputils, widgets, tellWritten);
    }

    async function run(args) {
      if (await showPipelines(ask, await saved(meant(args)), apputils, coreutils, widgets)) {
        await schedule(args);
      }
    }

    /** Add a command to the palette; what goes wrong is shown under its label. */
    function add(command, label, action, more = {}) {
      const execute = args => action(args).catch(error => apputils.showErrorMessage(label, error));
      commands.addCommand(command, { label, execute, isEnabled: args => Boolean(meant(args)), ...more });
      palette?.addItem({ command, category: 'Pipelines' });
    }

    add(`${NAME}:schedule`, 'Schedule this notebook', schedule, { icon });
    add(`${NAME}:run`, 'Run as pipeline now', run);
    tracker.currentChanged.connect(() => commands.notifyCommandChanged());
  }

  async function load() {
    const names = ['apputils', 'services', 'coreutils', 'notebook', 'filebrowser', 'ui-components'].map(each => `@jupyterlab/${each}`);
    const [apputils, services, coreutils, notebook, filebrowser, components, widgets] = await Promise.all(
      [...names, '@lumino/widgets'].map(shared)
    );
    const modules = { apputils, services, coreutils, components, widgets };
    const plugin = {
      id: `${NAME}:plugin`,
      description: 'Makes a pipeline of a notebook.',
      autoStart: true,
      requires: [notebook.INotebookTracker, filebrowser.IFileBrowserFactory],
      optional: [apputils.ICommandPalette],
      activate: (app, tracker, files, palette) => activate(app, tracker, files, palette, modules)
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
