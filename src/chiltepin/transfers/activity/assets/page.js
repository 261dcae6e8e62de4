"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const id = (name) => document.getElementById(name);
  const PAGE = 100, LANES = 12, DEPTH = 12, STEPS = 400;

  // One object for each task; times are seconds since 1970.
  const tasks = data.rows.map((row, number) => {
    const [asked, wait, lasted, state, pair, what, files, bytes, why, code] = row;
    const shown = data.states[state];
    const begun = asked / 1000, moving = begun + wait / 1000, over = begun + lasted / 1000;
    return {
      number, begun, moving, over, files, bytes, code, what, wait: wait / 1000, lasted: lasted / 1000, pair,
      pairName: data.pairs[pair], state: shown, bad: data.bad.includes(shown), live: data.live.includes(shown),
      why: data.whys[why], speed: bytes && over > moving ? bytes / (over - moving) : 0, text: null,
    };
  });

  // Words and numbers.

  const whole = new Intl.NumberFormat("en");
  const size = (bytes) => {
    const units = ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"];
    let step = 0;
    for (; bytes >= 999.5 && step < units.length - 1; step++) bytes /= 1000;
    return (step ? bytes.toFixed(1) : whole.format(Math.round(bytes))) + " " + units[step];
  };
  const span = (seconds) => {
    if (seconds < 1) return Math.round(seconds * 1000) + " ms";
    if (seconds < 60) return seconds.toFixed(1) + " s";
    const minutes = Math.round(seconds / 60);
    if (minutes < 60) return minutes + " min";
    return Math.floor(minutes / 60) + " h " + String(minutes % 60).padStart(2, "0") + " min";
  };
  const pad = (number) => String(number).padStart(2, "0");
  const when = (seconds) => {
    const day = new Date(seconds * 1000);
    return day.getFullYear() + "-" + pad(day.getMonth() + 1) + "-" + pad(day.getDate()) + " " +
      pad(day.getHours()) + ":" + pad(day.getMinutes()) + ":" + pad(day.getSeconds());
  };
  const element = (kind, text, name) => {
    const made = document.createElement(kind);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };

  // The head of the page.

  const sum = (of) => tasks.reduce((total, task) => total + of(task), 0);
  const failed = sum((task) => (task.bad ? 1 : 0));
  id("period").textContent = when(data.since) + " to " + when(data.now) + ", local time";
  for (const [name, value, kind] of [
    ["Tasks", whole.format(tasks.length)],
    ["Failed", whole.format(failed), failed ? "bad" : ""],
    ["In progress", whole.format(sum((task) => (task.live ? 1 : 0)))],
    ["Files", whole.format(sum((task) => task.files))],
    ["Bytes", size(sum((task) => task.bytes))],
  ]) {
    const box = element("div", undefined, kind);
    box.append(element("dt", name), element("dd", value));
    id("sums").append(box);
  }
  const codes = new Map();
  for (const task of tasks) if (task.bad) codes.set(task.code || task.state, (codes.get(task.code || task.state) || 0) + 1);
  for (const [code, count] of [...codes].sort((one, other) => other[1] - one[1]).slice(0, 10)) {
    const button = element("button", code + " \u00d7 " + whole.format(count));
    button.type = "button";
    button.addEventListener("click", () => { id("find").value = code; id("bad").checked = true; first(); id("tasks").scrollIntoView(); });
    id("codes").append(button);
  }
  id("errors").hidden = !failed;

  // The table.

  const rank = (task) => (task.bad ? 0 : task.live ? 1 : task.state === "unknown" ? 2 : 3);
  const COLUMNS = [
    { head: "State", of: rank, show: (task) => task.state, kind: "time" },
    { head: "Started", of: (task) => task.begun, show: (task) => when(task.begun), kind: "time", down: true },
    { head: "Endpoints", of: (task) => task.pairName, show: (task) => task.pairName, kind: "pair" },
    { head: "What", of: (task) => task.what, show: (task) => task.what, kind: "name" },
    { head: "Files", of: (task) => task.files, show: (task) => whole.format(task.files), kind: "number", down: true },
    { head: "Bytes", of: (task) => task.bytes, show: (task) => size(task.bytes), kind: "number", down: true },
    { head: "Speed", of: (task) => task.speed, show: (task) => (task.speed ? size(task.speed) + "/s" : ""), kind: "number", down: true },
    { head: "Waited", of: (task) => task.wait, show: (task) => span(task.wait), kind: "number", down: true },
    { head: "Took", of: (task) => task.lasted, show: (task) => span(task.lasted), kind: "number", down: true },
    { head: "Reason", of: (task) => task.why, show: (task) => task.why, kind: "why" },
  ];
  let sorted = 0, down = false, page = 0, found = [];
  COLUMNS.forEach((column, number) => {
    const cell = element("th", undefined, column.kind), button = element("button", column.head);
    button.type = "button";
    cell.scope = "col";
    button.addEventListener("click", () => {
      down = sorted === number ? !down : Boolean(column.down);
      sorted = number;
      first();
    });
    cell.append(button);
    id("head").append(cell);
  });
  const textOf = (task) => {
    if (task.text === null) {
      task.text = [task.state, task.pairName, task.what, task.why, task.code].join("\n").toLowerCase();
    }
    return task.text;
  };
  const first = () => {
    page = 0;
    const words = id("find").value.toLowerCase().split(/\s+/).filter(Boolean), only = id("bad").checked;
    const { min, max } = view, everything = min <= full.min && max >= full.max;
    found = tasks.filter((task) =>
      (!only || task.bad) && (everything || (task.begun <= max && task.over >= min)) &&
      words.every((word) => textOf(task).includes(word)));
    const of = COLUMNS[sorted].of, turn = down ? -1 : 1;
    found = found.map((task) => [of(task), task]).sort(([one, a], [other, b]) =>
      one < other ? -turn : one > other ? turn : b.begun - a.begun).map(([, task]) => task);
    fill();
  };
  const fill = () => {
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    page = Math.min(Math.max(page, 0), last);
    id("rows").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map((task) => {
      const line = element("tr", undefined, task.bad ? "bad" : task.state === "succeeded" ? "good" : "");
      for (const column of COLUMNS) {
        const cell = element("td", column.show(task), column.kind);
        cell.dataset.head = column.head;
        line.append(cell);
      }
      return line;
    }));
    [...id("head").children].forEach((cell, number) => {
      if (number === sorted) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const count = found.length === tasks.length ? whole.format(tasks.length) : whole.format(found.length) + " of " + whole.format(tasks.length);
    id("count").textContent = count + (tasks.length === 1 ? " task" : " tasks") + (sorted === 0 && !down ? ", errors first" : "");
    id("page").textContent = "Page " + (page + 1) + " of " + (last + 1);
    id("back").disabled = page === 0;
    id("next").disabled = page === last;
  };
  id("find").addEventListener("input", () => first());
  id("bad").addEventListener("change", () => first());
  id("back").addEventListener("click", () => { page -= 1; fill(); });
  id("next").addEventListener("click", () => { page += 1; fill(); });

  // What the time line shows: all, or a part of it.

  let low = Infinity, high = -Infinity;
  for (const task of tasks) { low = Math.min(low, task.begun); high = Math.max(high, task.over); }
  if (low > high) { low = data.since; high = data.now; }
  const margin = Math.max(0.5, (high - low) * 0.01);
  const full = { min: low - margin, max: high + margin };
  let view = { ...full };

  // Lanes: one for each pair of endpoints, the busiest first; what overlaps goes into rows below each other.

  const busy = new Map();
  for (const task of tasks) busy.set(task.pair, (busy.get(task.pair) || 0) + 1);
  const order = [...busy].sort((one, other) => other[1] - one[1]).map(([pair]) => pair);
  const alone = order.length > LANES ? order.slice(0, LANES - 1) : order;
  const lanes = alone.map((pair) => ({ name: data.pairs[pair], tasks: [], rows: 1 }));
  const laneOf = new Map(alone.map((pair, number) => [pair, lanes[number]]));
  if (order.length > LANES) {
    const rest = { name: order.length - alone.length + " other pairs", tasks: [], rows: 1 };
    lanes.push(rest);
    for (const pair of order.slice(LANES - 1)) laneOf.set(pair, rest);
  }
  for (const task of [...tasks].sort((one, other) => one.begun - other.begun)) {
    task.lane = laneOf.get(task.pair);
    task.lane.tasks.push(task);
  }
  for (const lane of lanes) {
    const free = [];
    for (const task of lane.tasks) {
      let row = free.findIndex((end) => end <= task.begun);
      if (row < 0) row = free.length < DEPTH ? free.length : free.indexOf(Math.min(...free));
      free[row] = Math.max(free[row] || 0, task.over);
      task.row = row;
    }
    lane.rows = Math.max(1, free.length);
  }
  const NAME = 20, ROW = (lane) => Math.max(4, Math.min(14, 56 / lane.rows));
  let tall = 0;
  for (const lane of lanes) { lane.top = tall; tall += NAME + lane.rows * ROW(lane) + 6; }

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

  const box = (task, plot, ratio) => {
    const { left, top, width } = plot.bbox, scale = width / (view.max - view.min);
    const at = (moment) => left + (moment - view.min) * scale;
    const high = ROW(task.lane) * ratio;
    return { from: at(task.begun), turn: at(task.moving), to: at(task.over), top: top + (task.lane.top + NAME) * ratio + task.row * high, high: Math.max(2, high - ratio) };
  };
  // A name that has no room loses its middle: both of its ends are endpoints.
  const fitted = (ctx, name, tail, wide) => {
    if (ctx.measureText(name + tail).width <= wide) return name + tail;
    const signs = Array.from(name);
    let kept = Math.floor(signs.length / 2), short;
    do short = signs.slice(0, kept).join("") + "\u2026" + signs.slice(-kept).join("") + tail;
    while (--kept > 1 && ctx.measureText(short).width > wide);
    return short;
  };
  const drawLanes = (plot) => {
    const { ctx, bbox } = plot, ratio = devicePixelRatio, least = ratio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    const paths = { wait: new Path2D(), move: new Path2D(), bad: new Path2D() };
    for (const task of tasks) {
      if (task.over < view.min || task.begun > view.max) continue;
      const place = box(task, plot, ratio);
      if (place.turn - place.from >= least / 2) paths.wait.rect(place.from, place.top, place.turn - place.from, place.high);
      const path = task.bad ? paths.bad : paths.move, wide = Math.max(task.bad ? 3 * least : least, place.to - place.turn);
      path.rect(place.turn, place.top, wide, place.high);
    }
    for (const kind of ["wait", "move", "bad"]) { ctx.fillStyle = style("--" + kind); ctx.fill(paths[kind]); }
    ctx.font = FONT.replace("12", String(12 * ratio));
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    for (const lane of lanes) {
      ctx.fillStyle = style("--line");
      ctx.fillRect(bbox.left, bbox.top + lane.top * ratio, bbox.width, ratio);
      ctx.fillStyle = style("--ink");
      const name = fitted(ctx, lane.name, "  (" + whole.format(lane.tasks.length) + ")", bbox.width - 4 * ratio);
      ctx.fillText(name, bbox.left + 2 * ratio, bbox.top + (lane.top + NAME / 2 + 1) * ratio);
    }
    ctx.restore();
  };
  const point = (plot) => {
    const { left, top } = plot.cursor;
    if (left === undefined || left < 0 || top < 0) return;
    const x = left * devicePixelRatio + plot.bbox.left, y = top * devicePixelRatio + plot.bbox.top;
    let best = null, near = 6 * devicePixelRatio;
    for (const task of tasks) {
      if (task.over < view.min || task.begun > view.max) continue;
      const place = box(task, plot, devicePixelRatio);
      if (y < place.top || y > place.top + place.high) continue;
      const far = Math.max(place.from - x, x - place.to, 0);
      if (far <= near) { best = task; near = far; }
    }
    if (best) {
      id("pointed").textContent = [when(best.begun), best.state, best.pairName, best.what, size(best.bytes),
        "waited " + span(best.wait), "took " + span(best.lasted), best.why].filter(Boolean).join(", ");
    }
  };

  // Bytes per second: each task's bytes, evenly over the time in which it moved.

  const rates = () => {
    const step = (view.max - view.min) / STEPS, amounts = new Float64Array(STEPS + 1), steady = new Float64Array(STEPS + 2);
    for (const task of tasks) {
      if (!task.bytes || task.over < view.min || task.moving > view.max) continue;
      const from = (task.moving - view.min) / step, to = Math.max((task.over - view.min) / step, from + 1e-9);
      const per = task.bytes / (to - from), one = Math.floor(from), other = Math.floor(to);
      const put = (bin, share) => { if (bin >= 0 && bin < STEPS) amounts[bin] += per * share; };
      if (one === other) { put(one, to - from); continue; }
      put(one, one + 1 - from);
      put(other, to - other);
      const begin = Math.min(Math.max(one + 1, 0), STEPS), end = Math.min(Math.max(other, 0), STEPS);
      if (end > begin) { steady[begin] += per; steady[end] -= per; }
    }
    const times = [], values = [];
    let level = 0;
    for (let bin = 0; bin <= STEPS; bin++) {
      level += steady[bin];
      times.push(view.min + bin * step);
      values.push(bin < STEPS ? Math.max(0, (amounts[bin] + level) / step) : 0);
    }
    return [times, values];
  };

  const axis = { stroke: () => style("--faint"), grid: { stroke: () => style("--line"), width: 1 }, ticks: { stroke: () => style("--line"), width: 1 }, font: FONT };
  const clock = { ...axis, space: 70, values: [
    [86400, "{YYYY}-{MM}-{DD}", null, null, null, null, null, null, 1],
    [3600, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
    [60, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
    [1, "{HH}:{mm}:{ss}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
    [0.001, "{ss}.{fff}", "\n{YYYY}-{MM}-{DD} {HH}:{mm}", null, "\n{MM}-{DD} {HH}:{mm}", null, "\n{HH}:{mm}", null, 1],
  ] };
  // The two plots have the same left edge, where there is room for that; where not, the first time needs some.
  const SIDE = 78, roomy = innerWidth > 640, side = roomy ? { size: SIDE, values: () => [], grid: { show: false }, ticks: { show: false } } : { show: false };
  const drag = { x: true, y: false };
  let held = false;
  const zoomed = (plot, scale) => {
    if (scale !== "x" || held) return;
    show(plot.scales.x.min, plot.scales.x.max);
  };
  const wide = (name) => Math.max(240, id(name).clientWidth);
  const lanePlot = new uPlot({
    width: wide("lanes"), height: tall + 46, legend: { show: false }, padding: [0, 8, 0, roomy ? 8 : 34],
    cursor: { y: false, drag, points: { show: false }, sync: { key: "time" } },
    scales: { x: { time: true }, y: { range: [0, 1] } }, axes: [clock, side], series: [{}, { show: true, points: { show: false } }],
    hooks: { draw: [drawLanes], setScale: [zoomed], setCursor: [point] },
  }, [[full.min, full.max], [null, null]], id("lanes"));
  const ratePlot = new uPlot({
    width: wide("rates"), height: 180, legend: { show: false }, padding: [8, 8, 0, 8],
    cursor: { y: false, drag, sync: { key: "time" } },
    scales: { x: { time: true }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.05 : 1] } },
    axes: [clock, { ...axis, size: SIDE, values: (_, ticks) => ticks.map((tick) => size(tick) + "/s") }],
    series: [{}, { stroke: () => style("--move"), fill: () => style("--area"), width: 1.5, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) }],
    hooks: { setScale: [zoomed] },
  }, rates(), id("rates"));

  let drawn = full.min + " " + full.max;
  function show(min, max) {
    const least = 0.01, middle = (min + max) / 2;
    if (!(max - min >= least)) { min = middle - least / 2; max = middle + least / 2; }
    view = { min: Math.max(min, full.min), max: Math.min(max, full.max) };
    if (!(view.max > view.min)) view = { ...full };
    if (drawn === view.min + " " + view.max) return;
    drawn = view.min + " " + view.max;
    held = true;
    lanePlot.batch(() => lanePlot.setScale("x", view));
    ratePlot.batch(() => { ratePlot.setData(rates(), false); ratePlot.setScale("x", view); ratePlot.setScale("y", { min: 0, max: Math.max(...ratePlot.data[1]) }); });
    held = false;
    tell();
    first();
  }
  const move = (share) => {
    const width = view.max - view.min, by = Math.min(Math.max(width * share, full.min - view.min), full.max - view.max);
    show(view.min + by, view.max + by);
  };
  const stretch = (factor) => {
    const middle = (view.min + view.max) / 2, half = ((view.max - view.min) / 2) * factor;
    show(middle - half, middle + half);
  };
  const tell = () => {
    const said = when(view.min) + " to " + when(view.max);
    id("lanes").setAttribute("aria-label", "Timeline of " + lanes.length + " pairs of endpoints, " + said + "; the table below contains the same data.");
    id("rates").setAttribute("aria-label", "Bytes per second, " + said + ", at most " + size(Math.max(...ratePlot.data[1])) + " per second.");
  };
  const actions = {
    earlier: () => move(-0.25), later: () => move(0.25), closer: () => stretch(0.5), wider: () => stretch(2),
    all: () => show(full.min, full.max),
  };
  for (const [name, act] of Object.entries(actions)) id(name).addEventListener("click", act);
  const keys = { ArrowLeft: "earlier", ArrowRight: "later", "+": "closer", "=": "closer", "-": "wider", 0: "all" };
  for (const name of ["lanes", "rates"]) {
    id(name).addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      actions[keys[event.key]]();
    });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== id("find") && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      id("find").focus();
    }
  });
  let width = id("lanes").clientWidth;
  new ResizeObserver(() => {
    if (id("lanes").clientWidth === width) return;
    width = id("lanes").clientWidth;
    lanePlot.setSize({ width: wide("lanes"), height: tall + 46 });
    ratePlot.setSize({ width: wide("rates"), height: 180 });
  }).observe(id("lanes"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { lanePlot.redraw(false, true); ratePlot.redraw(false, true); });
  tell();
  first();
  document.body.dataset.ready = "yes";
})();
