"""CSS and JavaScript of decoded text with its player (playground/figures/decoding_text.py). Uses no library and no network.

Colours are Streamlit's CSS variables; outside Streamlit the browser's own light or dark colours are the fallback. A small
number next to every draft gives its offset, so that no information is in the colour alone.
"""

CSS = """
.dt-root { --ink: var(--st-text-color, CanvasText); --line: var(--st-border-color, #80889066);
  --code: var(--st-code-font, ui-monospace, monospace);
  color: var(--ink); font-family: var(--st-font, inherit); font-size: 0.875rem; }
.dt-legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1rem; align-items: center; margin-bottom: 0.6rem; }
.dt-legend span.dt-entry { display: inline-flex; gap: 0.35rem; align-items: center; white-space: nowrap; }
.dt-bar { display: flex; flex-wrap: wrap; gap: 0.4rem 0.6rem; align-items: center; margin-bottom: 0.75rem; }
.dt-bar button { font: inherit; color: var(--ink); background: transparent; border: 1px solid var(--line);
  border-radius: 0.3rem; padding: 0.2rem 0.65rem; cursor: pointer; }
.dt-bar button:hover { border-color: var(--st-primary-color, Highlight); }
.dt-root :focus-visible { outline: 2px solid var(--st-primary-color, Highlight); outline-offset: 1px; }
.dt-bar input { flex: 1 1 5rem; min-width: 4rem; appearance: none; height: 4px; border-radius: 2px; cursor: pointer;
  background: color-mix(in srgb, var(--ink) 25%, transparent); --thumb: var(--st-primary-color, #2b83c4); }
.dt-bar input::-webkit-slider-thumb { appearance: none; width: 15px; height: 15px; border-radius: 50%;
  background: var(--thumb); }
.dt-bar input::-moz-range-thumb { width: 15px; height: 15px; border: none; border-radius: 50%; background: var(--thumb); }
.dt-clock { min-width: 8.5em; font-variant-numeric: tabular-nums; }
.dt-grid { display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr));
  margin-bottom: 0.75rem; }
.dt-card { border: 1px solid var(--line); border-radius: 0.4rem; padding: 0.6rem 0.75rem; min-width: 0; }
.dt-card h4 { margin: 0; font-size: 1rem; font-weight: 600; line-height: 1.3; overflow-wrap: anywhere; }
.dt-note, .dt-said { margin: 0.1rem 0 0.4rem; opacity: 0.8; font-size: 0.8rem; }
.dt-said { min-height: 2.6em; line-height: 1.3; overflow-wrap: anywhere; }
.dt-text { font-family: var(--code); font-size: 0.85rem; line-height: 2.2; white-space: pre-wrap; overflow-wrap: anywhere;
  max-height: 24em; overflow-y: auto; padding-bottom: 0.3em; }
.dt-prompt { opacity: 0.55; }
.dt-word { position: relative; border-radius: 2px; cursor: pointer; padding: 0.1em 0;
  background: color-mix(in srgb, var(--hue) 15%, transparent); }
.dt-word[data-offset] { border-bottom: 2px solid var(--hue); background: color-mix(in srgb, var(--hue) 34%, transparent); }
.dt-spaced .dt-word { padding: 0.1em 0.2em; }
.dt-word[data-offset]::after { content: attr(data-offset); position: absolute; left: 50%; top: calc(100% + 2px);
  font-size: 0.6rem; line-height: 1; transform: translateX(-50%); opacity: 0.9; pointer-events: none; }
.dt-later { opacity: 0.45; }
.dt-now { outline: 1.5px solid var(--ink); z-index: 1; }
.dt-chip { display: inline-flex; align-items: baseline; gap: 0.25em; border-radius: 3px; padding: 0 0.4em; white-space: pre;
  font-family: var(--code); font-size: 0.8rem; line-height: 1.55; border: 1.5px solid var(--hue, var(--line)); }
.dt-chip sub { font-size: 0.62rem; line-height: 1; }
.dt-fed { --hue: var(--line); }
.dt-accepted, .dt-own { background: color-mix(in srgb, var(--hue) 34%, transparent); }
.dt-own { border-style: double; border-width: 3px; padding: 0 0.3em; line-height: 1.35; }
.dt-refused, .dt-unreached { border-style: dashed; }
.dt-refused b, .dt-unreached b { text-decoration: line-through; text-decoration-thickness: 1.5px; }
.dt-unreached { opacity: 0.5; }
.dt-chip b { font-weight: 500; }
.dt-tree { overflow-x: auto; padding-bottom: 0.3rem; min-height: 4em; }
.dt-node { display: flex; align-items: flex-start; gap: 0.35rem; }
.dt-kids { display: flex; flex-direction: column; gap: 0.25rem; }
.dt-kids.dt-fork { border-left: 1px solid var(--line); padding-left: 0.35rem; }
.dt-list { display: flex; flex-wrap: wrap; gap: 0.35rem; max-height: 15rem; overflow-y: auto; padding: 2px; }
.dt-line { display: inline-flex; flex-wrap: wrap; align-items: center; gap: 2px; border: 1px solid var(--line);
  border-radius: 0.3rem; padding: 1px 4px; cursor: pointer; background: transparent; color: inherit; font: inherit; }
.dt-line i { font-style: normal; opacity: 0.7; font-size: 0.72rem; margin-right: 0.25rem; font-variant-numeric: tabular-nums; }
.dt-line .dt-chip { font-size: 0.74rem; border-width: 1px; padding: 0 0.25em; }
.dt-line.dt-now { border-color: var(--ink); }
.dt-head { font-weight: 600; font-size: 0.8rem; margin: 0.6rem 0 0.3rem; }
"""

SCRIPT = """
function drawDecoding(root, data) {
  const known = JSON.stringify(data);
  const kept = root.decoding;
  if (kept && kept.known === known) return;
  if (kept) clearInterval(kept.timer);
  const last = Math.max(...data.texts.map((text) => text.steps.length - 1));
  const state = root.decoding = { known, at: Math.min(data.start, last), timer: null };
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const quote = (text) => "\\u2018" + text + "\\u2019";
  const many = (count, word) => count + " " + word + (count === 1 ? "" : "s");
  const hue = (offset) => data.colors[offset - 1];
  const chip = (kind, text, offset) => {
    const element = make("span", "dt-chip dt-" + kind);
    if (offset) element.style.setProperty("--hue", hue(offset));
    element.append(make("b", "", text));
    if (offset) element.append(make("sub", "", String(offset)));
    return element;
  };

  const box = make("div", "dt-root");
  box.append(legend(), bar());
  const slider = box.querySelector("input"), clock = box.querySelector(".dt-clock"), play = box.querySelector(".dt-play");
  const texts = make("div", "dt-grid"), forwards = make("div", "dt-grid");
  box.append(texts, forwards);
  const cards = data.texts.map((text) => card(text));
  const players = data.texts.filter((text) => text.drafts).map((text) => forwardCard(text));

  function legend() {
    const row = make("div", "dt-legend");
    const entry = (sample, text) => {
      const element = make("span", "dt-entry");
      element.append(sample, text);
      row.append(element);
    };
    entry(make("span", "dt-prompt", "abc"), "prompt");
    entry(chip("own", "a", 1), "offset 1's own token");
    for (let offset = 2; offset <= data.colors.length; offset++) {
      entry(chip("accepted", "a", offset), "draft of offset " + offset + ", accepted");
    }
    if (data.colors.length > 1) entry(chip("refused", "a"), "draft refused");
    if (data.colors.length > 2) entry(chip("unreached", "a"), "draft after a refused one");
    return row;
  }

  function bar() {
    const row = make("div", "dt-bar");
    const button = (name, text, label, action) => {
      const element = make("button", name, text);
      element.type = "button";
      element.setAttribute("aria-label", label);
      element.onclick = action;
      row.append(element);
    };
    button("dt-play", "Play", "Play all forwards", () => (state.timer ? stop() : start()));
    button("", "\\u2039 Previous", "Previous forward", () => { stop(); go(state.at - 1); });
    button("", "Next \\u203a", "Next forward", () => { stop(); go(state.at + 1); });
    const input = make("input", "");
    input.type = "range";
    input.min = 0;
    input.max = last;
    input.setAttribute("aria-label", "Forward");
    input.oninput = () => { stop(); go(Number(input.value)); };
    row.append(input, make("span", "dt-clock"));
    return row;
  }

  function card(text) {
    const section = make("section", "dt-card");
    const count = make("p", "dt-note");
    const body = make("div", "dt-text" + (text.spaced ? " dt-spaced" : ""));
    body.tabIndex = 0;
    body.setAttribute("aria-label", text.title);
    const gap = () => (text.spaced ? " " : "");
    body.append(make("span", "dt-prompt", text.prompt.join(gap()) + gap()));
    const words = text.tokens.map((token) => {
      const word = make("span", "dt-word", token.text);
      word.style.setProperty("--hue", hue(token.offset));
      if (token.offset > 1) word.dataset.offset = token.offset;
      word.title = (token.offset > 1 ? "draft of offset " + token.offset + ", accepted" : "offset 1's own token")
        + ", forward " + token.forward;
      word.onclick = () => { stop(); go(token.forward); };
      body.append(word, gap());
      return word;
    });
    section.append(make("h4", "", text.title), count, body);
    texts.append(section);
    return { text, count, words };
  }

  function forwardCard(text) {
    const section = make("section", "dt-card");
    const heading = make("h4", ""), said = make("p", "dt-said"), tree = make("div", "dt-tree"), list = make("div", "dt-list");
    said.setAttribute("aria-live", "polite");
    const lines = text.steps.map((step, number) => {
      const line = make("button", "dt-line");
      line.type = "button";
      line.title = sentence(text, step, number);
      line.append(make("i", "", number === 0 ? "prefill" : number), ...summary(step));
      line.onclick = () => { stop(); go(number); };
      list.append(line);
      return line;
    });
    section.append(heading, said, tree, make("div", "dt-head", "All forwards"), list);
    forwards.append(section);
    return { text, heading, said, tree, list, lines };
  }

  function summary(step) {
    const of = (state) => step.drafts.filter((draft) => draft.state === state);
    const chips = of("accepted").map((draft) => chip("accepted", draft.text, draft.offset));
    chips.push(chip("own", step.own, 1));
    const out = step.drafts.filter((draft) => draft.state !== "accepted");
    if (out.length > 3) chips.push(make("i", "", many(out.length, "draft") + " not accepted"));
    else chips.push(...out.map((draft) => chip(draft.state, draft.text, draft.offset)));
    return chips;
  }

  function sentence(text, step, number) {
    const spoke = text.drawn ? "offset 1 drew " : "offset 1 predicted ";
    if (number === 0) return "The prefill reads the prompt; " + spoke + quote(step.own) + ". Nothing was drafted yet.";
    const names = (list) => list.map((draft) => "offset " + draft.offset + "\\u2019s " + quote(draft.text)).join(", ");
    const accepted = step.drafts.filter((draft) => draft.state === "accepted");
    const refused = step.drafts.filter((draft) => draft.state === "refused");
    const end = step.drafts.map((draft) => draft.state).lastIndexOf("accepted");
    const instead = refused.filter((draft) => draft.parent === end), beside = refused.length - instead.length;
    const parts = ["Input: " + quote(step.fed) + " and " + many(step.drafts.length, "draft") + "."];
    if (!step.drafts.length) parts[0] = "Input: " + quote(step.fed) + ", no drafts.";
    if (accepted.length) parts.push("Accepted: " + names(accepted) + (beside ? ", not their alternatives." : "."));
    if (instead.length) parts.push("Refused: " + (instead.length > 3 ? many(instead.length, "draft") : names(instead)) + "; "
      + spoke + quote(step.own) + " instead.");
    else if (accepted.length) parts.push("After that " + spoke + quote(step.own) + ".");
    else parts.push(spoke[0].toUpperCase() + spoke.slice(1) + quote(step.own) + ".");
    const total = accepted.length + 1, wanted = step.kept < total ? ", of which " + step.kept + " still wanted" : "";
    parts.push(many(total, "token") + " in one forward" + wanted + ".");
    return parts.join(" ");
  }

  function drawTree(step) {
    const children = (parent) => step.drafts.map((draft, index) => [draft, index]).filter(([draft]) => draft.parent === parent);
    const node = (element, parent, holdsOwn) => {
      const row = make("div", "dt-node");
      row.append(element);
      const kids = make("div", "dt-kids");
      const followers = children(parent);
      const goesOn = followers.some(([draft]) => draft.state === "accepted");
      if (holdsOwn && !goesOn) kids.append(node(chip("own", step.own, 1), -2, false));
      for (const [draft, index] of followers) {
        kids.append(node(chip(draft.state, draft.text, draft.offset), index, draft.state === "accepted"));
      }
      kids.classList.toggle("dt-fork", kids.children.length > 1);
      if (kids.children.length) row.append(kids);
      return row;
    };
    return node(chip("fed", step.fed), -1, true);
  }

  function start() {
    if (state.at >= last) go(0);
    play.textContent = "Pause";
    play.setAttribute("aria-label", "Pause");
    const pause = Math.max(150, Math.min(700, 12000 / Math.max(1, last)));
    state.timer = setInterval(() => { if (state.at >= last || !root.isConnected) stop(); else go(state.at + 1); }, pause);
  }

  function stop() {
    clearInterval(state.timer);
    state.timer = null;
    play.textContent = "Play";
    play.setAttribute("aria-label", "Play all forwards");
  }

  function keepInView(list, line) {
    const above = line.offsetTop - list.offsetTop, below = above + line.offsetHeight;
    if (above < list.scrollTop || below > list.scrollTop + list.clientHeight) list.scrollTop = above - list.clientHeight / 2;
  }

  function go(number) {
    state.at = Math.max(0, Math.min(last, number));
    slider.value = state.at;
    clock.textContent = state.at === 0 ? "prefill, of " + last : "forward " + state.at + " of " + last;
    for (const { text, count, words } of cards) {
      const mine = Math.min(state.at, text.steps.length - 1);
      words.forEach((word, index) => {
        word.classList.toggle("dt-later", text.tokens[index].forward > mine);
        word.classList.toggle("dt-now", text.tokens[index].forward === mine);
      });
      const done = text.tokens.filter((token) => token.forward <= mine).length, all = text.tokens.length;
      const forwards = many(text.steps.length - 1, "forward");
      count.textContent = done === all
        ? "All " + many(all, "token") + ", after " + forwards + " after the prefill."
        : "After " + mine + " of its " + forwards + ": " + done + " of " + many(all, "token") + ".";
    }
    for (const { text, heading, said, tree, list, lines } of players) {
      const mine = Math.min(state.at, text.steps.length - 1);
      const ended = state.at > mine ? " (its last)" : "";
      heading.textContent = (players.length > 1 ? text.title + ": " : "") + (mine ? "Forward " + mine : "Prefill") + ended;
      said.textContent = sentence(text, text.steps[mine], mine);
      tree.replaceChildren(drawTree(text.steps[mine]));
      lines.forEach((line, index) => line.classList.toggle("dt-now", index === mine));
      keepInView(list, lines[mine]);
    }
  }
  root.replaceChildren(box);
  go(state.at);
}
"""
