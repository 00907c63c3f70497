// An answer that is written: a text with its difference to the model's, or a number.

import type { RefObject } from "preact";
import type { ReviewItem } from "../types";
import { diff } from "./diff";

export const NO_SPEECH = "[no speech]";
export const UNINTELLIGIBLE = "[unintelligible]";
type Props = { item: ReviewItem; value: unknown; write: (v: string) => void; field: RefObject<(HTMLTextAreaElement & HTMLInputElement) | null> };

export function Written(props: Props) {
  return props.item.kind === "number" ? <NumberAnswer {...props} /> : <TextAnswer {...props} />;
}

function TextAnswer({ item, value, write, field }: Props) {
  const text = value == null ? "" : String(value);
  const model = item.suggestion ? String(item.suggestion.value ?? "") : null;
  const sound = item.media_type.startsWith("audio/");
  return (
    <div class="written">
      <label><span>{sound ? "What is said" : "Your answer"} <kbd>E</kbd></span>
        <textarea ref={field} rows={4} value={text} onInput={(e) => write(e.currentTarget.value)} />
      </label>
      {model !== null && text !== model && <Difference before={model} after={text} />}
      {model !== null && text === model && <p class="quiet">The same as the model's.</p>}
      {sound && (
        <div class="row">
          <button aria-pressed={text === NO_SPEECH} onClick={() => write(NO_SPEECH)}>No speech <kbd>X</kbd></button>
          <button aria-pressed={text === UNINTELLIGIBLE} onClick={() => write(UNINTELLIGIBLE)}>Unintelligible <kbd>Z</kbd></button>
        </div>
      )}
    </div>
  );
}

function Difference({ before, after }: { before: string; after: string }) {
  return (
    <p class="difference" aria-label="Difference to the model's">
      {diff(before, after).map((piece, i) => (
        <span key={i}>{piece.kind === "removed" ? <del>{piece.text}</del> : piece.kind === "added" ? <ins>{piece.text}</ins> : piece.text} </span>
      ))}
    </p>
  );
}

function NumberAnswer({ item, value, write, field }: Props) {
  const range = item.range;
  const n = Number(value);
  const outside = value != null && value !== "" && range && (n < range.low || n > range.high);
  return (
    <div class="written">
      <label><span>Your answer{item.unit && ` in ${item.unit}`} <kbd>E</kbd></span>
        <input ref={field} type="number" step="any" inputMode="decimal" value={value == null ? "" : String(value)} onInput={(e) => write(e.currentTarget.value)} />
      </label>
      {range && <p class="quiet">The reference lies between {range.low} and {range.high}.</p>}
      {outside && <p class="notice warn" role="status">This is outside what the reference has seen.</p>}
    </div>
  );
}
