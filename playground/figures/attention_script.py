"""CSS and JavaScript of the attention on tokens (playground/figures/attention_text.py). Uses no library and no network.

Colours are Streamlit's CSS variables; outside Streamlit the browser's own light or dark colours are the fallback.
"""

CSS = """
.at-root { --ink: var(--st-text-color, CanvasText); --line: var(--st-border-color, #80889066);
  color: var(--ink); font-family: var(--st-font, inherit); font-size: 0.875rem; }
.at-bar { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; align-items: center; margin-bottom: 0.5rem; }
.at-bar label { cursor: pointer; white-space: nowrap; }
.at-hint { opacity: 0.75; }
.at-cards { display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.at-card { border: 1px solid var(--line); border-radius: 0.4rem; padding: 0.6rem 0.75rem; min-width: 0; }
.at-card h4 { margin: 0; font-size: 1rem; font-weight: 600; border-left: 0.3rem solid var(--hue); padding-left: 0.4rem; }
.at-note { margin: 0.1rem 0 0.35rem; opacity: 0.75; font-size: 0.8rem; }
.at-said { margin: 0 0 0.4rem; min-height: 2.5em; line-height: 1.25; overflow-wrap: anywhere; }
.at-row { display: flex; flex-wrap: wrap; gap: 2px; position: relative; }
.at-token { font-family: var(--st-code-font, ui-monospace, monospace); font-size: 0.8rem; line-height: 1.35; min-width: 0.6em;
  min-height: 1.35em; padding: 1px 4px; border-radius: 3px; border: 1.5px solid transparent; cursor: pointer;
  white-space: pre-wrap; overflow-wrap: anywhere; text-align: center; }
.at-token.at-far { opacity: 0.45; }
.at-token.at-ideal { border: 1.5px dashed var(--ink); }
.at-token.at-here { border: 1.5px solid var(--ink); box-shadow: 0 0 0 1px var(--ink); }
.at-token:focus-visible { outline: 2px solid var(--st-primary-color, Highlight); outline-offset: 1px; }
.at-tip { position: absolute; z-index: 2; pointer-events: none; background: var(--st-background-color, Canvas);
  color: var(--ink); border: 1px solid var(--line); border-radius: 3px; padding: 1px 6px; font-size: 0.8rem;
  white-space: nowrap; box-shadow: 0 1px 4px #0004; }
"""

SCRIPT = """
function drawAttention(root, data) {
  const kept = root.attention || {};
  const same = JSON.stringify(kept.tokens) === JSON.stringify(data.tokens);
  const state = root.attention = {
    tokens: data.tokens, incoming: kept.incoming || false,
    held: same && kept.held !== undefined ? kept.held : null, at: same && kept.at !== undefined ? kept.at : data.start,
  };
  const make = (tag, name, text) => {
    const element = document.createElement(tag);
    element.className = name;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const box = make("div", "at-root");
  const bar = make("div", "at-bar");
  const choices = [[false, "what a token attends to"], [true, "what attends to a token"]];
  const group = "at-" + Math.random().toString(36).slice(2);
  for (const [incoming, text] of choices) {
    const label = make("label", "");
    const input = make("input", "");
    input.type = "radio";
    input.name = group;
    input.checked = state.incoming === incoming;
    input.onchange = () => { state.incoming = incoming; show(); };
    label.append(input, " " + text);
    bar.append(label);
  }
  bar.append(make("span", "at-hint", "Point at a token; a click or Enter holds it, Esc lets go, arrow keys move."));
  const grid = make("div", "at-cards");
  box.append(bar, grid);

  // One token's share in what is shown: the weight from the query to the key, 0 where the query comes before the key.
  const weight = (head, other) => {
    const [query, key] = state.incoming ? [other, state.at] : [state.at, other];
    return key <= query ? head.weights[query][key] : 0;
  };
  const reaches = (other) => state.incoming ? other >= state.at : other <= state.at;
  const isIdeal = (other) => state.incoming ? data.ideal[other].includes(state.at) : data.ideal[state.at].includes(other);
  let pointer = "";
  const named = (index) => "\\u2018" + data.tokens[index] + "\\u2019 (" + index + ")";

  const cards = data.heads.map((head) => {
    const card = make("section", "at-card");
    card.style.setProperty("--hue", head.color);
    const said = make("p", "at-said");
    said.setAttribute("aria-live", "polite");
    const row = make("div", "at-row");
    row.setAttribute("role", "listbox");
    row.setAttribute("aria-label", "Tokens, " + head.title);
    const tip = make("div", "at-tip");
    tip.hidden = true;
    const boxes = data.tokens.map((token, index) => {
      const element = make("span", "at-token", token);
      element.dataset.position = index;
      element.setAttribute("role", "option");
      // A browser also reports a pointer at rest when the page moves under it: that must not undo the arrow keys.
      element.onpointermove = (event) => {
        const place = event.screenX + " " + event.screenY;
        if (place === pointer) return;
        pointer = place;
        if (state.held !== null) point(head, row, tip, element, index);
        else if (state.at !== index) { state.at = index; show(); }
      };
      element.onpointerleave = () => { tip.hidden = true; };
      element.onclick = () => { hold(state.held === index ? null : index); };
      element.onfocus = () => { if (state.held === null) { state.at = index; show(); } };
      element.onkeydown = (event) => key(event, boxes, index);
      row.append(element);
      return element;
    });
    row.append(tip);
    card.append(make("h4", "", head.name + ": " + head.title), make("p", "at-note", head.note), said, row);
    grid.append(card);
    return { head, said, boxes, tip };
  });

  function hold(index) {
    state.held = index;
    if (index !== null) state.at = index;
    for (const card of cards) card.tip.hidden = true;
    show();
  }

  function key(event, boxes, index) {
    const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (event.key in moves) {
      const next = Math.max(0, Math.min(boxes.length - 1, index + moves[event.key]));
      if (state.held !== null) state.held = next;
      state.at = next;
      show();
      boxes[next].focus();
    } else if (event.key === "Enter" || event.key === " ") {
      hold(state.held === index ? null : index);
    } else if (event.key === "Escape") {
      hold(null);
    } else {
      return;
    }
    event.preventDefault();
  }

  function point(head, row, tip, element, other) {
    tip.textContent = reaches(other) ? weight(head, other).toFixed(3) : "comes " + (state.incoming ? "before it" : "later");
    tip.hidden = false;
    const across = Math.max(0, Math.min(element.offsetLeft, row.clientWidth - tip.offsetWidth));
    tip.style.left = across + "px";
    tip.style.top = element.offsetTop - tip.offsetHeight - 2 + "px";
  }

  function show() {
    for (const { head, said, boxes } of cards) {
      const weights = boxes.map((_, other) => weight(head, other));
      boxes.forEach((element, other) => {
        const share = Math.round(65 * weights[other]);
        element.style.background = share ? "color-mix(in srgb, " + head.color + " " + share + "%, transparent)" : "";
        element.classList.toggle("at-here", other === state.at);
        element.classList.toggle("at-far", !reaches(other));
        element.classList.toggle("at-ideal", other !== state.at && isIdeal(other));
        element.setAttribute("aria-selected", other === state.held ? "true" : "false");
        element.tabIndex = other === state.at ? 0 : -1;
        element.title = state.held === null && reaches(other) ? weights[other].toFixed(3) : "";
      });
      const most = weights.map((value, other) => [value, other]).filter(([value]) => value >= 0.005)
        .sort((a, b) => b[0] - a[0]).slice(0, 4);
      const list = most.map(([value, other]) => named(other) + " " + value.toFixed(2)).join(", ");
      const start = named(state.at) + (state.incoming ? " is attended to by " : " attends to ");
      said.textContent = start + (list || "nothing above 0.005") + (state.held === null ? "" : " \\u2013 held");
    }
  }
  root.attention = state;
  root.replaceChildren(box);
  show();
}
"""
