// Opens the load tester's page in Chromium: light and dark, on a wide screen and on a phone. Usage:
// report_page.mjs PAGE RUN CHARTS, where RUN is the saved run that the page shows, and CHARTS how many
// drawings it has.
import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { Chromium } from './chromium.mjs';
import { assert } from './harness.mjs';

const SCREENS = [
  { width: 1280, scheme: 'light', background: 'rgb(253, 253, 252)' },
  { width: 1280, scheme: 'dark', background: 'rgb(20, 23, 26)' },
  { width: 390, scheme: 'light', background: 'rgb(253, 253, 252)' },
  { width: 390, scheme: 'dark', background: 'rgb(20, 23, 26)' },
];
const UNITS = {
  ns: { ns: 1, µs: 1e3, ms: 1e6, s: 1e9 },
  bytes: { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 },
  count: { '': 1 },
  per_second: { '/s': 1 },
  cores: { '': 1 },
  ratio: { '': 1 },
};
// Runs in the page. Texts of a drawing may not cover each other, nor leave the window.
const LAYOUT = `(() => {
  const box = (text) => text.getBoundingClientRect();
  const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 3 || b.bottom <= a.top + 3;
  const faults = [];
  for (const svg of document.querySelectorAll('svg')) {
    const texts = [...svg.querySelectorAll('text')];
    texts.forEach((one, at) => {
      if (box(one).right > innerWidth || box(one).left < 0) faults.push('outside: ' + one.textContent);
      for (const other of texts.slice(at + 1)) {
        if (!apart(box(one), box(other))) faults.push(one.textContent + ' covers ' + other.textContent);
      }
    });
  }
  return {
    faults,
    overflow: document.documentElement.scrollWidth - innerWidth,
    charts: document.querySelectorAll('svg').length,
    background: getComputedStyle(document.body).backgroundColor,
    loaded: performance.getEntriesByType('resource').length,
    scripts: document.scripts.length,
  };
})()`;
const CONTENT = `({
  figures: Object.fromEntries([...[...document.querySelectorAll('h2')].find((title) => title.textContent === 'Figures').parentElement.querySelectorAll('tr')].map((row) => [...row.cells].map((cell) => cell.textContent))),
  headline: document.querySelector('h1').textContent,
  pill: document.querySelector('.pill').textContent,
  cells: Object.fromEntries([...document.querySelectorAll('tr')].map((row) => [...row.cells].map((cell) => cell.textContent))),
  reasons: [...document.querySelectorAll('.evidence li')].map((item) => item.textContent.replaceAll('\\u00a0', ' ')),
})`;

/** Returns the number that a cell shows, in the unit of the saved run. */
function parse(text, unit) {
  const [, number, name] = /^([\d.,]+) ?(\D*)$/u.exec(text);
  return Number(number.replaceAll(',', '')) * UNITS[unit][name];
}

function checkFigures(cells, run) {
  for (const { name, unit, value } of run.figures) {
    if (value === null) {
      assert.equal(cells[name], '–', name);
      continue;
    }
    // Three digits are shown, and whole numbers where those are fewer.
    const tolerance = Math.max(value * 0.006, unit === 'per_second' || unit === 'count' ? 0.5 : 0.005);
    const shown = parse(cells[name], unit);
    assert.ok(Math.abs(shown - value) <= tolerance, `${name}: ${cells[name]} for ${value}`);
  }
}

const [file, saved, charts] = process.argv.slice(2);
const run = JSON.parse(await readFile(saved, 'utf8'));
const source = await readFile(file, 'utf8');
assert.doesNotMatch(source, /NaN|inf\b|undefined/u);
const browser = await Chromium.start();
try {
  const page = await browser.open('about:blank');
  const options = { sessionId: page.sessionId };
  const parsed = `new DOMParser().parseFromString(${JSON.stringify(source)}, 'application/xml')`;
  assert.equal(await page.evaluate(`${parsed}.querySelector('parsererror')?.textContent`), undefined);
  for (const { width, scheme, background } of SCREENS) {
    const screen = { width, height: 900, deviceScaleFactor: 1, mobile: width < 500 };
    await browser.ask('Emulation.setDeviceMetricsOverride', screen, options);
    const features = [{ name: 'prefers-color-scheme', value: scheme }];
    await browser.ask('Emulation.setEmulatedMedia', { features }, options);
    await browser.ask('Page.navigate', { url: pathToFileURL(file).href }, options);
    await page.until(`document.readyState === 'complete' && document.querySelector('footer')`);
    const layout = await page.evaluate(LAYOUT);
    const expected = { faults: [], background, loaded: 0, scripts: 0, charts: Number(charts) };
    const { overflow, ...rest } = layout;
    assert.deepEqual(rest, expected, `${width} ${scheme}`);
    assert.ok(overflow <= 0, `at ${width} pixels the page is ${overflow} wider than the window`);
  }
  const { headline, pill, figures, cells, reasons } = await page.evaluate(CONTENT);
  checkFigures(figures, run);
  const kind = run.verdict.kind.replaceAll('_', ' ');
  assert.ok(pill === kind || pill === `the ${kind}`, pill);
  const count = run.figures.find(({ name }) => name === 'expected deliveries')?.value;
  if (count !== undefined && run.verdict.kind === 'valid') {
    assert.equal(headline, `All ${count.toLocaleString('en')} deliveries arrived, once and in order`);
  }
  assert.doesNotMatch(Object.values(cells).join('\n'), /(^|\s)-\d/u, 'no figure is negative');
  assert.deepEqual(reasons, run.verdict.evidence);
  assert.equal(cells.kernel, `Linux ${run.machine.kernel}`);
} finally {
  await browser.close();
}
