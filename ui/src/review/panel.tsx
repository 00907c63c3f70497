// The side of the review page: what is suggested, the labels, the boxes, and the light.

import { percent, short, value } from "../format";
import type { ReviewItem } from "../types";
import { without, type Draft } from "./desk";
import type { Light } from "./stage";

export function Suggestion({ item }: { item: ReviewItem }) {
  const s = item.suggestion;
  if (!s) return <p class="notice calm">Judge what you see. Nothing is suggested for this item.</p>;
  return (
    <p class="notice calm">
      <b>{short(s.version)}</b> suggests <b>{value(s.value)}</b>{s.confidence != null && ` (${percent(s.confidence)})`}{item.regions && s.regions.length > 0 && ` with ${s.regions.length} ${s.regions.length === 1 ? "box" : "boxes"}`}.
    </p>
  );
}

export function Labels({ item, draft, choose }: { item: ReviewItem; draft: Draft; choose: (label: string) => void }) {
  return (
    <div role="group" aria-label="Label" class="stack labels">
      {item.labels.map((label, i) => (
        <button key={label} aria-pressed={draft.value === label} onClick={() => choose(label)}>{i < 9 && <kbd>{i + 1}</kbd>} {label}</button>
      ))}
    </div>
  );
}

export function BoxList({ draft, setDraft, add }: { draft: Draft; setDraft: (draft: Draft) => void; add: () => void }) {
  return (
    <div class="box-list">
      <div class="card-head"><h2>Boxes</h2><button onClick={add}>New <kbd>N</kbd></button></div>
      {draft.boxes.length === 0 && <p class="quiet">None. Drag on the photo, or press N.</p>}
      <ul>
        {draft.boxes.map((box, i) => (
          <li key={i}>
            <button aria-pressed={draft.selected === i} onClick={() => setDraft({ ...draft, selected: i })}>{i + 1} {box.label}{box.confidence != null && <span class="quiet"> {percent(box.confidence, 0)}</span>}</button>
            <button class="plain" aria-label={`Delete box ${i + 1}`} onClick={() => setDraft(without(draft, i))}>✕</button>
          </li>
        ))}
      </ul>
    </div>
  );
}

type LightProps = { light: Light; setLight: (light: Light) => void; zoom: (factor: number) => void; fit: () => void; hidden: boolean; setHidden: (hidden: boolean) => void };

export function Lights({ light, setLight, zoom, fit, hidden, setHidden }: LightProps) {
  const slider = (key: keyof Light, text: string) => (
    <label class="inline">{text}
      <input type="range" min="0.2" max="4" step="0.1" value={light[key]} onInput={(e) => setLight({ ...light, [key]: Number(e.currentTarget.value) })} />
    </label>
  );
  return (
    <div class="row lights">
      {slider("brightness", "Brightness")}
      {slider("contrast", "Contrast")}
      {slider("gamma", "Gamma")}
      <button onClick={() => setLight({ brightness: 1, contrast: 1, gamma: 1 })}>Reset light</button>
      <span class="row">
        <button aria-label="Zoom out" onClick={() => zoom(0.8)}>−</button>
        <button aria-label="Zoom in" onClick={() => zoom(1.25)}>+</button>
        <button onClick={fit}>Fit</button>
        <button aria-pressed={hidden} onClick={() => setHidden(!hidden)}>Hide boxes</button>
      </span>
    </div>
  );
}
