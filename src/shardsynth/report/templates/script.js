'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const PAGE = 24, FEW = 8, W = 340, H = 120;
  const state = { model: 0, query: '', order: 'worst', page: 0, size: PAGE, holdout: false, opened: new Set(), third: 'difference' };
  const byId = (id) => document.getElementById(id);
  const dash = '\u2013';

  // Names and values enter the page as text only: no markup is parsed here.
  function build(make, tag, attributes, children) {
    const node = make(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key === 'on') for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
      else if (key === 'width%') node.style.width = value + '%';
      else node.setAttribute(key, value === true ? '' : value);
    }
    for (const child of children) if (child !== null && child !== undefined) node.append(child);
    return node;
  }
  const el = (tag, attributes, ...children) => build((t) => document.createElement(t), tag, attributes, children);
  const svg = (tag, attributes, ...children) => build((t) => document.createElementNS('http://www.w3.org/2000/svg', t), tag, attributes, children);
  const named = (tag, text, attributes) => el(tag, { class: 'name', dir: 'auto', title: text, ...attributes }, text);

  function percent(share) {
    if (share === null || share === undefined) return '<' + data.least + ' ' + data.counted;
    const value = 100 * share;
    if (value === 0) return '0 %';
    if (value < 0.01) return '<0.01 %';
    return (value >= 99.95 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2)) + ' %';
  }
  const cut = (score, digits = 3) => score === null || score === undefined ? dash : (Math.floor(score * 10 ** digits + 1e-9) / 10 ** digits).toFixed(digits);
  const signed = (value) => value === null ? dash : (value < 0 ? '\u2212' : '') + Math.abs(value).toFixed(2);
  function level(score, reference) {
    if (score === null || score === undefined) return '';
    const gap = (reference === null || reference === undefined ? 1 : reference) - score;
    return gap <= 0.02 ? 'best' : gap <= 0.05 ? 'good' : gap <= 0.1 ? 'fair' : 'poor';
  }
  const many = (count, word) => count.toLocaleString('en') + ' ' + word + (count === 1 ? '' : 's');

  // ---- columns -------------------------------------------------------------------------------------------------
  function bars(column) {
    const all = column.r, shown = state.opened.has(column.p) ? all : all.slice(0, FEW + 1 >= all.length ? all.length : FEW);
    if (all.length && shown.length < all.length && all[all.length - 1][0] === 'm') shown.push(all[all.length - 1]);
    const most = Math.max(...all.map((bar) => Math.max(bar[2] || 0, bar[3][state.model] || 0, (state.holdout && bar[4]) || 0)), 1e-9);
    const box = el('div', { class: 'bars' });
    for (const [kind, label, real, synthetic, holdout] of shown) {
      const text = kind === 'v' ? '= ' + label : label;
      const share = synthetic[state.model];
      box.append(
        named('span', text, { class: kind === 'c' || kind === 'v' ? 'name' : 'name quiet' }),
        el('div', { class: 'pair', 'aria-hidden': 'true' },
          el('div', { class: real === null ? 'real few' : 'real', 'width%': 100 * (real || 0) / most }),
          el('div', { class: 'synthetic', 'width%': 100 * share / most }),
          state.holdout && holdout !== null ? el('div', { class: 'holdout', 'width%': 100 * holdout / most }) : null),
        el('span', { class: 'num' }, el('span', { class: 'hidden' }, 'real '), percent(real), ' / ', el('span', { class: 'hidden' }, 'synthetic '), el('b', {}, percent(share))));
    }
    return { box, hidden: all.length - shown.length };
  }

  function outline(heights, closed) {
    let path = '';
    let open = false;
    for (const [x0, x1, y] of heights) {
      if (y === null) { open = false; continue; }
      path += (open ? 'L' : closed ? 'M' + x0.toFixed(1) + ' ' + H + 'L' : 'M') + x0.toFixed(1) + ' ' + y.toFixed(1) + 'H' + x1.toFixed(1);
      open = true;
    }
    return closed ? path + 'V' + H + 'Z' : path;
  }

  function histogram(column) {
    const slots = column.b.reduce((sum, bin) => sum + bin[5], 0);
    const width = W / slots;
    const dense = (share, bin) => share === null ? null : share / bin[5];
    let most = 1e-9, left = 0;
    for (const bin of column.b) most = Math.max(most, dense(bin[2], bin) || 0, dense(bin[3][state.model], bin) || 0, (state.holdout && dense(bin[4], bin)) || 0);
    const scaled = (share, bin) => { const value = dense(share, bin); return value === null ? null : H - H * Math.min(value / most, 1); };
    const real = [], synthetic = [], holdout = [], hits = [], ends = [];
    column.b.forEach((bin, k) => {
      const x0 = left * width, x1 = (left + bin[5]) * width;
      left += bin[5];
      real.push([x0, x1, bin[2] === null ? H : scaled(bin[2], bin)]);
      synthetic.push([x0, x1, scaled(bin[3][state.model], bin)]);
      holdout.push([x0, x1, scaled(bin[4], bin)]);
      const text = bin[1] + ': real ' + percent(bin[2]) + ', synthetic ' + percent(bin[3][state.model]);
      hits.push(svg('rect', { class: 'hit', x: x0.toFixed(1), y: 0, width: (x1 - x0).toFixed(1), height: H }, svg('title', {}, text)));
      if (bin[6]) ends.push(svg('text', { class: 'tick', x: k ? W + 2 : -2, y: H + 13, 'text-anchor': k ? 'start' : 'end', 'aria-hidden': 'true' }, k ? '\u203a' : '\u2039'));
    });
    const marks = column.x.map(([place, text]) => {
      const x = Math.min(Math.max(place * width, 0), W);
      const anchor = x < 14 ? 'start' : x > W - 14 ? 'end' : 'middle';
      return svg('g', {}, svg('line', { class: 'axis base', x1: x, x2: x, y1: H, y2: H + 3 }), svg('text', { class: 'tick', x, y: H + 15, 'text-anchor': anchor }, text));
    });
    return svg('svg', { class: 'plot', viewBox: `-8 -14 ${W + 16} ${H + 32}`, role: 'img', 'aria-label': `Histogram of ${column.n}, real and synthetic; the numbers are in the table below` },
      svg('line', { class: 'axis', x1: 0, x2: W, y1: 0, y2: 0 }), svg('text', { class: 'tick', x: 0, y: -4 }, (column.r.some((bar) => bar[0] === 'v') ? 'all other values, ' : '') + 'up to ' + percent(most) + ' of rows a bar' + (column.l ? ', logarithmic axis' : '')),
      svg('path', { class: 'real', d: outline(real, true) }), svg('path', { class: 'synthetic', d: outline(synthetic, true) }), svg('path', { class: 'synthetic-line', d: outline(synthetic, false) }),
      state.holdout ? svg('path', { class: 'holdout', d: outline(holdout, false) }) : null,
      svg('line', { class: 'axis base', x1: 0, x2: W, y1: H, y2: H }), ...marks, ...ends, ...hits);
  }

  function numbers(column) {
    const body = el('tbody');
    for (const bar of [...column.r, ...column.b]) {
      body.append(el('tr', {}, el('td', {}, named('div', bar[1])), el('td', {}, percent(bar[2])), el('td', {}, percent(bar[3][state.model])),
        state.holdout ? el('td', {}, percent(bar[4])) : null));
    }
    return el('div', { class: 'numbers', tabindex: 0, role: 'region', 'aria-label': 'Numbers of ' + column.n }, el('table', {}, el('thead', {}, el('tr', {},
      el('th', { scope: 'col' }, 'Values'), el('th', { scope: 'col' }, 'Real'), el('th', { scope: 'col' }, 'Synthetic'), state.holdout ? el('th', { scope: 'col' }, 'Holdout') : null)), body));
  }

  function columnCard(column) {
    const score = column.s[state.model], equal = column.e[state.model], valid = column.d[state.model];
    const card = el('article', { class: 'card column m' + state.model % 8 },
      el('header', {}, el('div', {}, named('h3', column.n), el('p', { class: 'mark ' + level(equal === null ? score : equal, column.h), title: 'score, 1 is identical' }, cut(score))), el('div', {},
        el('p', { class: 'type name', title: column.t }, column.t), el('p', { class: 'aside' }, column.h === null ? '' : el('span', { title: equal === null ? 'the score of real rows that no model has seen' : 'the scores of as many synthetic rows as the holdout has, and of the holdout' }, equal === null ? '' : cut(equal) + ' vs ', 'holdout ' + cut(column.h))))));
    if (valid !== null && valid < 0.99995) card.append(el('p', { class: 'invalid' }, percent(1 - valid) + ' of values lie outside the real range or categories.'));
    if (column.o) card.append(el('p', { class: 'note' }, column.o));
    const foot = el('div', { class: 'foot' });
    if (column.r.length) {
      const { box, hidden } = bars(column);
      card.append(box);
      if (hidden > 0 || state.opened.has(column.p)) {
        foot.append(el('button', { class: 'plain', type: 'button', on: { click: () => {
          if (!state.opened.delete(column.p)) state.opened.add(column.p);
          const fresh = columnCard(column);
          card.replaceWith(fresh);
          fresh.querySelector('button').focus();
        } } }, hidden > 0 ? 'show all ' + column.r.length : 'show fewer'));
      }
    }
    if (column.b.length) card.append(histogram(column));
    if (column.r.length || column.b.length) {
      let table = null;
      const button = el('button', { class: 'plain', type: 'button', 'aria-expanded': 'false', on: { click: () => {
        if (table) { table.remove(); table = null; } else { table = numbers(column); card.append(table); }
        button.setAttribute('aria-expanded', String(Boolean(table)));
        button.textContent = table ? 'hide numbers' : 'numbers';
      } } }, 'numbers');
      foot.append(button);
      card.append(foot);
    }
    return card;
  }

  function chosen() {
    const words = state.query.trim().toLocaleLowerCase();
    const found = data.columns.filter((column) => !words || column.n.toLocaleLowerCase().includes(words));
    const score = (column) => { const value = column.s[state.model]; return value === null ? 2 : value; };
    if (state.order === 'worst') found.sort((a, b) => score(a) - score(b) || a.p - b.p);
    else if (state.order === 'best') found.sort((a, b) => (score(b) % 2) - (score(a) % 2) || a.p - b.p);
    else if (state.order === 'name') found.sort((a, b) => a.n.localeCompare(b.n) || a.p - b.p);
    return found;
  }

  function drawColumns() {
    const found = chosen();
    const pages = Math.max(Math.ceil(found.length / state.size), 1);
    state.page = Math.min(state.page, pages - 1);
    const first = state.page * state.size, part = found.slice(first, first + state.size);
    const left = data.total > data.columns.length ? ` The ${many(data.columns.length, 'column')} with the lowest scores are on this page; all scores are in metrics.parquet.` : '';
    byId('column-status').textContent = found.length
      ? `${many(found.length, 'column')}${state.query.trim() ? ' found' : ''}${pages > 1 ? `, ${first + 1} to ${first + part.length} shown` : ''}.${left}`
      : `No column has this in its name.${left}`;
    byId('column-grid').replaceChildren(...part.map(columnCard));
    const go = (step) => () => { state.page += step; drawColumns(); byId('columns').scrollIntoView(); const next = byId('pager').querySelector('button:not(:disabled)'); if (next) next.focus({ preventScroll: true }); };
    byId('pager').replaceChildren(...(pages < 2 ? [] : [
      el('button', { type: 'button', disabled: state.page === 0, on: { click: go(-1) } }, 'Previous'),
      el('span', {}, `page ${state.page + 1} of ${pages}`),
      el('button', { type: 'button', disabled: state.page === pages - 1, on: { click: go(1) } }, 'Next')]));
  }

  // ---- pairs ---------------------------------------------------------------------------------------------------
  const names = data.pairs.names, size = names.length;
  const unpack = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const packed = { real: unpack(data.pairs.real), synthetic: data.pairs.synthetic.map(unpack), scores: data.pairs.scores.map(unpack) };
  const known = (bytes) => bytes.reduce((sum, byte) => sum + (byte !== 255), 0);
  const partly = data.models.length > 0 && known(packed.synthetic[0]) < known(packed.scores[0]) / 2;
  const at = (a, b) => { const low = Math.min(a, b), high = Math.max(a, b); return low * (2 * size - low - 1) / 2 + high - low - 1; };
  const association = (bytes, k) => bytes[k] === 255 ? null : (bytes[k] - 100) / 100;
  const values = {
    real: (k) => association(packed.real, k),
    synthetic: (k) => association(packed.synthetic[state.model], k),
    difference: (k) => { const a = values.real(k), b = values.synthetic(k); return a === null || b === null ? null : b - a; },
    score: (k) => { const byte = packed.scores[state.model][k]; return byte === 255 ? null : byte / 200; },
  };
  const darkMode = matchMedia('(prefers-color-scheme: dark)');
  let printing = false;
  const dark = () => darkMode.matches && !printing;
  const mix = (a, b, t) => a.map((x, k) => Math.round(x + (b[k] - x) * t));
  const stops = () => dark()
    ? { low: [92, 172, 240], none: [24, 33, 43], high: [255, 134, 110], absent: [44, 56, 69], bad: [240, 150, 250] }
    : { low: [20, 92, 168], none: [248, 249, 250], high: [180, 24, 44], absent: [223, 227, 232], bad: [112, 20, 120] };
  function colour(kind, value) {
    const stop = stops();
    if (value === null) return stop.absent;
    if (kind === 'score') return mix(stop.none, stop.bad, Math.min(Math.max((1 - value) / 0.5, 0), 1));
    const strength = Math.min(Math.abs(kind === 'difference' ? value * 2 : value), 1) ** 0.7;
    return mix(stop.none, value < 0 ? stop.low : stop.high, strength);
  }
  const MAPS = [
    { place: 'real', title: 'Real rows', about: 'How the columns go together in the real rows.' },
    { place: 'synthetic', title: 'Synthetic rows', about: 'The same in the synthetic rows.' },
    { place: 'third', title: '', about: '' },
  ];
  const THIRD = {
    difference: { title: 'Difference', about: 'Synthetic minus real: the less colour, the better.', ends: ['\u22120.5', '0', '0.5'] },
    score: { title: 'Pair score', about: 'Coloured squares are pairs that the model got wrong.', ends: ['0.5 or less', '', '1'] },
  };
  const kindOf = (place) => place === 'third' ? state.third : place;
  const cursor = { a: -1, b: -1 };
  const drawn = [];

  function readout() {
    const { a, b } = cursor;
    const listed = known(packed.scores[state.model]);
    const spare = data.pairs.count[state.model] > listed ? ` The maps show ${listed.toLocaleString('en')} of them, the linked and the worst; grey ones are left out or have no score.` : '';
    drawn.forEach(({ labels }) => labels.forEach((label, k) => label.classList.toggle('on', k === a)));
    if (a < 0 || a === b) { byId('pair-status').textContent = a < 0 ? `${many(data.pairs.count[state.model], 'pair')} scored.${spare}` : names[a]; return; }
    const k = at(a, b), score = values.score(k);
    byId('pair-status').textContent = `\u2068${names[a]}\u2069 and \u2068${names[b]}\u2069: real ${signed(values.real(k))}, synthetic ${signed(values.synthetic(k))}, pair score ${score === null ? dash : score.toFixed(2)}.`;
  }

  function mapCard(map) {
    const canvas = el('canvas', { class: 'cells', tabindex: 0, role: 'img', width: size, height: size });
    const move = (a, b) => { cursor.a = a; cursor.b = b; readout(); drawn.forEach((other) => other.paint()); };
    canvas.addEventListener('pointermove', (event) => {
      const box = canvas.getBoundingClientRect();
      const place = (x, length) => Math.min(Math.max(Math.floor(x / length * size), 0), size - 1);
      const a = place(event.clientY - box.top, box.height), b = place(event.clientX - box.left, box.width);
      if (a !== cursor.a || b !== cursor.b) move(a, b);
    });
    canvas.addEventListener('pointerleave', () => { if (document.activeElement !== canvas) move(-1, -1); });
    canvas.addEventListener('keydown', (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const clamp = (x) => Math.min(Math.max(x, 0), size - 1);
      move(clamp(Math.max(cursor.a, 0) + step[0]), clamp(Math.max(cursor.b, 0) + step[1]));
    });
    const labels = size <= 24 ? names.map((name) => named('span', name)) : [];
    const title = el('span', {}, map.title), about = el('p', {}, map.about);
    const select = map.place !== 'third' ? null : el('select', { 'aria-label': 'What the third map shows', on: { change: (event) => { state.third = event.target.value; drawMaps(); } } },
      ...Object.entries(THIRD).map(([value, words]) => el('option', { value, selected: value === state.third }, words.title.toLowerCase())));
    const bar = el('canvas', { width: 101, height: 1, 'aria-hidden': 'true' });
    const ends = [el('span'), el('span'), el('span')];
    const card = el('div', { class: 'card map' }, el('h3', {}, title, select), about,
      el('div', { class: 'field-of' }, labels.length ? el('div', { class: 'labels', 'aria-hidden': 'true' }, ...labels) : null, canvas), el('div', { class: 'scale' }, ends[0], bar, ends[2]));
    const context = canvas.getContext('2d');
    let image = null;
    function colours() {
      // One colour per byte (or per difference of two bytes), so that a map of 500 x 500 is quick.
      const kind = kindOf(map.place), table = [];
      const of = { real: (k) => packed.real[k], synthetic: (k) => packed.synthetic[state.model][k], score: (k) => packed.scores[state.model][k],
        difference: (k) => packed.real[k] === 255 || packed.synthetic[state.model][k] === 255 ? 999 : packed.synthetic[state.model][k] - packed.real[k] + 200 }[kind];
      const value = { real: (c) => (c - 100) / 100, synthetic: (c) => (c - 100) / 100, score: (c) => c / 200, difference: (c) => (c - 200) / 100 }[kind];
      const absent = stops().absent;
      image = context.createImageData(size, size);
      const put = (a, b, rgb) => { const place = 4 * (a * size + b); image.data[place] = rgb[0]; image.data[place + 1] = rgb[1]; image.data[place + 2] = rgb[2]; image.data[place + 3] = 255; };
      for (let a = 0, k = 0; a < size; a++) {
        put(a, a, absent);
        for (let b = a + 1; b < size; b++, k++) {
          const code = of(k);
          const rgb = code === 999 || (code === 255 && kind !== 'difference') ? absent : (table[code] = table[code] || colour(kind, value(code)));
          put(a, b, rgb);
          put(b, a, rgb);
        }
      }
    }
    function paint() {
      context.putImageData(image, 0, 0);
      if (cursor.a < 0) return;
      context.fillStyle = dark() ? 'rgba(255,255,255,.22)' : 'rgba(0,0,0,.18)';
      context.fillRect(0, cursor.a, size, 1);
      context.fillRect(cursor.b, 0, 1, size);
      context.fillStyle = dark() ? '#fff' : '#000';
      context.fillRect(cursor.b, cursor.a, 1, 1);
    }
    function dress() {
      const kind = kindOf(map.place), words = THIRD[kind];
      if (kind === 'synthetic') about.textContent = partly ? 'Known for pairs of numbers only.' : map.about;
      if (words) { title.textContent = words.title; about.textContent = words.about; }
      (words ? words.ends : ['\u22121', '0', '1']).forEach((text, k) => { ends[k].textContent = text; });
      canvas.setAttribute('aria-label', `Heat map, ${title.textContent}: ${many(size, 'column')}. Use the arrow keys to read single pairs.`);
      const pen = bar.getContext('2d'), ramp = pen.createImageData(101, 1);
      for (let k = 0; k <= 100; k++) ramp.data.set([...colour(kind, kind === 'score' ? 0.5 + k / 200 : kind === 'difference' ? k / 100 - 0.5 : k / 50 - 1), 255], 4 * k);
      pen.putImageData(ramp, 0, 0);
      colours();
      paint();
    }
    drawn.push({ paint, dress, labels });
    return card;
  }

  function drawMaps() {
    if (size < 2) { byId('pair-status').textContent = 'No pairs were scored.'; return; }
    if (!drawn.length) {
      if (partly) state.third = 'score';
      byId('maps').append(...MAPS.map(mapCard));
    }
    drawn.forEach((map) => map.dress());
    readout();
  }

  function drawWorst() {
    const rows = (data.pairs.worst[state.model] || []).slice(0, 20);
    byId('worst-title').hidden = byId('worst-about').hidden = !rows.length;
    byId('worst').parentElement.hidden = !rows.length;
    const hasHoldout = rows.some((row) => row[6] !== null);
    const head = ['Column', 'and column', 'Real', 'Synthetic', 'Pair score', hasHoldout ? 'On as many rows' : null, hasHoldout ? 'Real holdout' : null, 'Linked'].map((text) => text && el('th', { scope: 'col' }, text));
    byId('worst').replaceChildren(el('thead', {}, el('tr', {}, ...head)), el('tbody', {}, ...rows.map(([a, b, real, synthetic, score, equal, reference, used]) => el('tr', {},
      el('td', {}, named('span', a)), el('td', {}, named('span', b)), el('td', {}, signed(real)), el('td', {}, signed(synthetic)), el('td', {}, cut(score)), hasHoldout ? el('td', {}, cut(equal)) : null, hasHoldout ? el('td', { class: 'ref' }, cut(reference)) : null, el('td', {}, used ? 'yes' : 'no')))));
  }

  // ---- the whole -----------------------------------------------------------------------------------------------
  function drawAll() {
    document.querySelector('.compare').className = 'compare m' + state.model % 8;
    byId('legend-model').textContent = data.models[state.model];
    byId('legend-holdout').hidden = !state.holdout;
    drawColumns();
    drawMaps();
    drawWorst();
  }
  document.querySelectorAll('input[name=model]').forEach((input) => {
    if (input.checked) state.model = Number(input.value);
    input.addEventListener('change', () => { state.model = Number(input.value); drawAll(); });
  });
  byId('query').addEventListener('input', (event) => { state.query = event.target.value; state.page = 0; drawColumns(); });
  byId('order').addEventListener('change', (event) => { state.order = event.target.value; state.page = 0; drawColumns(); });
  byId('holdout-choice').hidden = !data.holdout;
  byId('holdout').addEventListener('change', (event) => { state.holdout = event.target.checked; drawAll(); });
  darkMode.addEventListener('change', drawMaps);
  addEventListener('beforeprint', () => { printing = true; document.querySelector('.meaning').open = true; if (data.columns.length <= 120) state.size = 1000; if (data.models.length) drawAll(); });
  addEventListener('afterprint', () => { printing = false; state.size = PAGE; if (data.models.length) drawAll(); });
  if (data.models.length) drawAll();
  else { byId('picker').hidden = true; byId('column-status').textContent = 'No model has been scored yet.'; }
})();
