"use strict";
// Predicted paths over time: a slider picks the origin, the picture shows what was forecast there and what happened.
(() => {
  const figure = document.getElementById("paths-over-time");
  const data = JSON.parse(document.getElementById("paths-data").textContent);
  const slider = figure.querySelector("input");
  const told = figure.querySelector("output");
  const chart = figure.querySelector("div");
  const { symbol, horizon, delay, rows } = data;

  // Whole numbers are ten thousandths of log return since the close that the path starts from.
  const price = (row, value) => row.close * Math.exp(value / 1e4);
  const percent = (value) => {
    const change = 100 * Math.expm1(value / 1e4);
    return `${change < 0 ? "\u2212" : "+"}${Math.abs(change).toFixed(1)}%`;
  };
  const line = (row, values, first) =>
    values.flatMap((value, place) => (value === null ? [] : [[first + place, price(row, value)]]));
  const last = (values) => values[values.length - 1];

  const sentence = (row) => {
    const parts = [`forecast ${percent(last(row.path))} in ${horizon} bars`];
    const real = last(row.real);
    if (row.low) parts.push(`80% band ${percent(last(row.low))} to ${percent(last(row.high))}`);
    if (real === null) parts.push("what happened is not known yet");
    else {
      const held = row.low && (last(row.low) <= real && real <= last(row.high) ? ", inside the band" : ", outside the band");
      parts.push(`happened ${percent(real)}${held || ""}`);
      parts.push(`error ${(Math.abs(real - last(row.path)) / 100).toFixed(1)} points of log return`);
    }
    return `${symbol}, ${row.at}: ${parts.join("; ")}.`;
  };

  const steps = (low, high) => {
    const rough = (high - low) / 4 || Math.abs(high) / 4 || 1;
    const size = 10 ** Math.floor(Math.log10(rough));
    const step = size * ([1, 2, 5].find((one) => one * size >= rough) || 10);
    const found = [];
    for (let at = Math.ceil(low / step); at * step <= high; at += 1) found.push(at * step);
    return { found, digits: Math.max(0, -Math.floor(Math.log10(step))) };
  };

  const shape = (kind, parts, text) => {
    const one = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(parts)) one.setAttribute(name, value);
    if (text !== undefined) one.textContent = text;
    return one;
  };

  const draw = () => {
    const row = rows[slider.value];
    const lines = {
      past: line(row, row.past, 1 + delay - row.past.length),
      model: line(row, [0, ...row.path], delay),
      event: line(row, [0, ...row.real], delay),
    };
    const edge = (values) => line(row, [0, ...values], delay);
    const band = row.low ? [...edge(row.high), ...edge(row.low).reverse()] : [];
    const drawn = [...Object.values(lines).flat(), ...band];
    const values = drawn.map((point) => point[1]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const first = lines.past[0][0];
    const { found, digits } = steps(low, high);

    const width = Math.max(280, chart.clientWidth);
    const height = Math.min(340, 120 + width / 3);
    const left = 12 + 7.5 * Math.max(...found.map((value) => value.toFixed(digits).length), 3);
    const x = (bar) => left + ((bar - first) / (delay + horizon - first)) * (width - left - 8);
    const y = (value) => 8 + ((high - value) / (high - low || 1)) * (height - 48);
    const points = (path) => path.map(([bar, value]) => `${x(bar).toFixed(1)},${y(value).toFixed(1)}`).join(" ");

    const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": sentence(row) });
    for (const value of found) {
      svg.append(shape("line", { class: "grid", x1: left, x2: width - 8, y1: y(value), y2: y(value) }));
      svg.append(shape("text", { x: left - 6, y: y(value) + 4, class: "end" }, value.toFixed(digits)));
    }
    svg.append(shape("line", { class: "origin", x1: x(0), x2: x(0), y1: 8, y2: height - 40 }));
    if (band.length) svg.append(shape("polygon", { class: "band", points: points(band) }));
    for (const [name, path] of Object.entries(lines)) svg.append(shape("polyline", { class: name, points: points(path) }));
    for (const bar of [first, 0, delay + horizon]) {
      const where = bar === first ? "" : bar ? "end" : "middle";
      const words = bar ? `${bar < 0 ? "\u2212" : "+"}${Math.abs(bar)}` : "origin";
      svg.append(shape("text", { x: x(bar), y: height - 22, class: where }, words));
    }
    svg.append(shape("text", { x: (left + width) / 2, y: height - 5, class: "middle" }, "bars from the forecast"));
    chart.replaceChildren(svg);
  };

  const tell = () => {
    const row = rows[slider.value];
    draw();
    slider.setAttribute("aria-valuetext", row.at);
    told.textContent = `${Number(slider.value) + 1} of ${rows.length}. ${sentence(row)}`;
  };

  figure.hidden = false;
  slider.addEventListener("input", tell);
  addEventListener("resize", draw);
  tell();
})();
