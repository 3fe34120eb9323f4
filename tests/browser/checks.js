// What the tests in tests/browser ask of an open page. Each function returns complaints as texts: none if all is well.
"use strict";
globalThis.checks = (() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const flat = (text) => text.replace(/\s+/g, " ").trim();
  const shown = (element) => element.checkVisibility({ visibilityProperty: true });

  const named = (element) => {
    const place = element.id ? `#${element.id}` : element.getAttribute("class") ? `.${element.getAttribute("class")}` : "";
    return `<${element.localName}${place}> "${flat(element.textContent).slice(0, 40)}"`;
  };

  const unfold = () => {
    for (const one of all("details")) one.open = true;
  };

  // Every figure shows a picture that has a size, something drawn on it, and words for those who cannot see it.
  const figures = () => {
    const wrong = [];
    for (const figure of all("figure").filter(shown))
      if (!all("svg, img", figure).some(shown)) wrong.push(`${named(figure)} shows no picture`);
    for (const picture of all("svg, img").filter(shown)) {
      const { width, height } = picture.getBoundingClientRect();
      const label = flat(picture.getAttribute("aria-label") || picture.getAttribute("alt") || "");
      const what = `the picture "${label.slice(0, 40)}"`;
      if (width < 100 || height < 50) wrong.push(`${what} is ${width} by ${height}`);
      if (label.length < 20) wrong.push(`${what} is not described`);
      if (picture.localName === "img" && !(picture.complete && picture.naturalWidth)) wrong.push(`${what} is broken`);
      if (picture.localName !== "svg") continue;
      if (picture.getAttribute("role") !== "img") wrong.push(`${what} is not announced as an image`);
      const marks = all("path, use, line, rect, circle, polyline, polygon", picture);
      if (marks.filter((mark) => mark.getBoundingClientRect().width + mark.getBoundingClientRect().height > 0).length < 3)
        wrong.push(`${what} is empty`);
      for (const use of all("use", picture))
        if (!document.getElementById(use.href.baseVal.slice(1))) wrong.push(`${what} misses ${use.href.baseVal}`);
      wrong.push(...overlaps(picture, what));
    }
    return wrong;
  };

  // Words on a picture can be read: none is cut off at its edge, and none lies upon another.
  const overlaps = (picture, what) => {
    const frame = picture.getBoundingClientRect();
    const texts = all("text", picture).map((text) => [flat(text.textContent), text.getBoundingClientRect()]);
    const wrong = [];
    texts.forEach(([text, box], place) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1) wrong.push(`${what} cuts "${text}" off`);
      for (const [other, there] of texts.slice(place + 1)) {
        const across = Math.min(box.right, there.right) - Math.max(box.left, there.left);
        const down = Math.min(box.bottom, there.bottom) - Math.max(box.top, there.top);
        if (across > 0.5 && down > 3) wrong.push(`${what} has "${text}" upon "${other}"`);
      }
    });
    return wrong;
  };

  // Nothing makes the page scroll sideways, sticks out of it, or is cut off; what scrolls by itself may be wider.
  const widths = () => {
    const width = document.documentElement.clientWidth;
    const wrong = [];
    if (document.scrollingElement.scrollWidth > width) wrong.push(`${document.scrollingElement.scrollWidth} px wide`);
    const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
    const walk = (element) => {
      if (!shown(element)) return;
      const box = element.getBoundingClientRect();
      const aside = box.right <= 0 || box.width <= 1; // for screen readers alone
      if (box.width && !aside && (box.right > width + 0.5 || box.left < -0.5))
        wrong.push(`${named(element)} from ${box.left} to ${box.right}`);
      const cut = ["hidden", "clip"].includes(getComputedStyle(element).overflowX);
      if (cut && !aside && element.scrollWidth > element.clientWidth + 1) wrong.push(`${named(element)} is cut off`);
      if (element.localName !== "svg" && !scrolls(element)) [...element.children].forEach(walk);
    };
    walk(document.body);
    return wrong;
  };

  // Headings make an outline, ids are unique, and whatever names an id names one that there is.
  const outline = () => {
    const wrong = [];
    const levels = all("h1, h2, h3, h4, h5, h6").map((heading) => Number(heading.localName[1]));
    if (levels[0] !== 1 || levels.filter((level) => level === 1).length !== 1) wrong.push(`headings ${levels}`);
    levels.forEach((level, place) => {
      if (place && level > levels[place - 1] + 1) wrong.push(`${named(all("h1, h2, h3, h4, h5, h6")[place])} skips a level`);
    });
    const ids = all("[id]").map((element) => element.id);
    for (const id of new Set(ids.filter((one, place) => ids.indexOf(one) !== place))) wrong.push(`id ${id} occurs twice`);
    const known = new Set(ids);
    for (const name of ["aria-labelledby", "aria-describedby", "aria-controls", "aria-owns", "popovertarget", "for"])
      for (const element of all(`[${name}]`))
        for (const id of element.getAttribute(name).split(/\s+/))
          if (!known.has(id)) wrong.push(`${named(element)} names ${id} in ${name}`);
    for (const link of all("a[href]")) {
      const href = link.getAttribute("href");
      if (!href.startsWith("#") || !known.has(decodeURIComponent(href.slice(1)))) wrong.push(`${named(link)} leads to ${href}`);
    }
    if (all("main").length !== 1) wrong.push(`${all("main").length} main`);
    if (!document.documentElement.lang || !document.title) wrong.push("no language or no title");
    return wrong;
  };

  // The contrast of every text that is shown with what lies behind it (WCAG 2.2, success criterion 1.4.3).
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(colour, [red, green, blue, alpha / 255]);
    }
    return known.get(colour);
  };
  const over = (top, bottom, alpha) => [0, 1, 2].map((place) => alpha * top[place] + (1 - alpha) * bottom[place]);
  const behind = (element) => {
    if (!element) return rgba("Canvas");
    const [red, green, blue, alpha] = rgba(getComputedStyle(element).backgroundColor);
    return alpha === 1 ? [red, green, blue] : over([red, green, blue], behind(element.parentElement), alpha);
  };
  const luminance = (colour) => {
    const [red, green, blue] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrasts = (least) => {
    const wrong = new Set();
    let measured = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || ["SCRIPT", "STYLE"].includes(element.tagName) || !shown(element)) continue;
      const style = getComputedStyle(element);
      const ink = rgba(element.closest("svg") ? style.fill : style.color);
      const ground = behind(element.closest("svg") ?? element);
      let opacity = ink[3];
      for (let one = element; one; one = one.parentElement) opacity *= Number(getComputedStyle(one).opacity);
      const [light, dark] = [luminance(over(ink, ground, opacity)), luminance(ground)].sort((a, b) => b - a);
      const ratio = (light + 0.05) / (dark + 0.05);
      if (ratio < least) wrong.add(`${named(element)} has ${ratio.toFixed(2)}`);
      measured += 1;
    }
    return measured < 5 ? [`only ${measured} texts are shown`] : [...wrong];
  };

  // On paper nothing can be pressed, opened or scrolled to, and colours that mean something must be printed.
  const unprintable = () => {
    const wrong = all("input, .copy, nav").filter(shown).map((element) => `${named(element)} is of no use on paper`);
    for (const one of all("details:not([open])").filter(shown)) wrong.push(`${named(one)} is closed`);
    const coloured = [...all("td, .verdict").map((one) => [one, null]), ...all(".key").map((one) => [one, "::before"])];
    for (const [element, part] of coloured.filter(([one]) => shown(one))) {
      const style = getComputedStyle(element, part);
      if (rgba(style.backgroundColor)[3] && style.printColorAdjust !== "exact")
        wrong.push(`the colour of ${named(element)} is not printed`);
    }
    return wrong;
  };

  const words = () => document.querySelector("main").innerText.split(/\s+/).length;

  // What a table says, row by row, and what its button puts on the clipboard; "and 3 more" only unfolds a cell.
  const said = (cell) => {
    const whole = cell.cloneNode(true);
    for (const one of all("summary", whole)) one.remove();
    return flat(whole.textContent);
  };
  const copies = async () => {
    const found = [];
    for (const table of all("table")) {
      const button = table.closest(".table").querySelector(".copy");
      await navigator.clipboard.writeText("nothing");
      button.click();
      const wait = performance.now() + 5000;
      while ((await navigator.clipboard.readText()) === "nothing" && performance.now() < wait)
        await new Promise((done) => setTimeout(done, 5));
      const rows = [...table.rows].map((row) => [...row.cells].map(said));
      found.push({ name: button.getAttribute("aria-label"), rows, csv: await navigator.clipboard.readText() });
    }
    return found;
  };

  const focused = () => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    return { place: all("*").indexOf(element), outline: style.outlineStyle, shadow: style.boxShadow };
  };

  return { unfold, figures, widths, outline, contrasts, unprintable, words, copies, focused };
})();
