// The side of the review page: what is suggested, the labels, the boxes, and the light.

import { percent, short, value } from "../format";
import type { ReviewItem } from "../types";
import type { Draft } from "./desk";
import { Row } from "./mark";
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

type ListProps = { draft: Draft; classes: string[]; select: (index: number) => void; remove: (index: number) => void; name: (label: string) => void; add: () => void };

export function BoxList({ draft, classes, select, remove, name, add }: ListProps) {
  const chosen = draft.boxes[draft.selected];
  return (
    <div class="box-list">
      <div class="card-head"><h2>Boxes{draft.boxes.length > 0 && ` (${draft.boxes.length})`}</h2><button onClick={add}>New <kbd>N</kbd></button></div>
      {draft.boxes.length === 0 && <p class="quiet">None. Drag on the photo, or press N.</p>}
      <ul>{draft.boxes.map((box, i) => <Row key={i} box={box} index={i} selected={draft.selected === i} select={select} remove={remove} />)}</ul>
      {chosen && (
        <label>{`Class of box ${draft.selected + 1}`}
          <select value={chosen.label} onChange={(e) => { name(e.currentTarget.value); e.currentTarget.blur(); }}>{classes.map((c) => <option key={c}>{c}</option>)}</select>
        </label>
      )}
    </div>
  );
}

type LightProps = { light: Light; setLight: (light: Light) => void; zoom: (factor: number) => void; fit: () => void; hidden: boolean; setHidden: (hidden: boolean) => void; beside: boolean; setBeside: (beside: boolean) => void };

export function Lights({ light, setLight, zoom, fit, hidden, setHidden, beside, setBeside }: LightProps) {
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
      <span class="row">
        <button onClick={() => setLight({ brightness: 1, contrast: 1, gamma: 1 })}>Reset light</button>
        <button aria-label="Zoom out" onClick={() => zoom(0.8)}>−</button>
        <button aria-label="Zoom in" onClick={() => zoom(1.25)}>+</button>
        <button onClick={fit}>Fit</button>
        <button aria-pressed={hidden} onClick={() => setHidden(!hidden)}>Hide boxes <kbd>H</kbd></button>
        <button aria-pressed={beside} onClick={() => setBeside(!beside)}>Last good <kbd>L</kbd></button>
      </span>
    </div>
  );
}
