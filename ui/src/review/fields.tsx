// A text or a record. Of a record: each field with its type, where the value lies in the reference, what is missing,
// and how much it moved the answer where the model says so.

import { useState } from "preact/hooks";
import { Fault, post } from "../api";
import { number, value, words } from "../format";
import type { FieldInfo, Range, ReviewItem } from "../types";
import { bar, influence, said, signed, strongest, type Influence } from "./influence";
import { quoted } from "./quoted";
import { spread, where } from "./range";
import { path } from "./work";

type Props = { item: ReviewItem; sorted?: boolean; sort?: () => void };

export function Fields({ item, sorted = false, sort }: Props) {
  const record = item.record;
  const answer = item.labels.length === 0 && item.suggestion ? String(item.suggestion.value ?? "") : "";
  if (typeof record === "string") return <blockquote class="text-item" tabIndex={0} aria-label="The text to judge">{quoted(record, answer).map((part, i) => (part.marked ? <mark key={i}>{part.text}</mark> : part.text))}</blockquote>;
  if (!record || typeof record !== "object") return <p class="notice warn">The input of this item was not kept. Skip it with that reason.</p>;
  const declared = item.fields ?? [];
  const known = new Set(declared.map((f) => f.name));
  const extra = Object.keys(record).filter((name) => !known.has(name)).map((name): FieldInfo => ({ name, type: "", masked: false, values: [], range: null }));
  const values = record as Record<string, unknown>;
  const fields = [...declared, ...extra];
  const why = influence(item);
  const shown = why && sorted ? strongest(fields, why) : fields;
  const apart = why ? Object.keys(why).filter((name) => !fields.some((f) => f.name === name)) : [];
  const gaps = fields.filter((f) => !f.masked && values[f.name] == null).length;
  const odd = fields.filter((f) => f.range && typeof values[f.name] === "number" && where(values[f.name] as number, f.range) !== "inside").length;
  return (
    <section aria-label="The record to judge" class="record-view">
      <div class="row record-head">
        <p class="quiet">{fields.length} fields{gaps > 0 && `, ${gaps} missing`}{odd > 0 && `, ${odd} outside what the reference has seen`}.</p>
        {why && <button aria-pressed={sorted} onClick={sort}>Strongest first <kbd>O</kbd></button>}
      </div>
      <dl class={why ? "record moved" : "record"}>
        {shown.map((f) => <Line key={f.name} item={item} field={f} given={values[f.name]} why={why} />)}
        {apart.map((name) => <div key={name}><dt>{words(name)}<span class="type">made by the model</span></dt><dd><span /><Moved n={why![name]!} item={item} why={why!} /></dd></div>)}
      </dl>
      {why && <p class="quiet">Bars to the right {item.kind === "number" ? "raised the answer" : <>speak for <b>{value(item.suggestion?.value)}</b></>}, bars to the left {item.kind === "number" ? "lowered it" : "against it"}. They say what moved the model, not what is true.</p>}
    </section>
  );
}

function Line({ item, field, given, why }: { item: ReviewItem; field: FieldInfo; given: unknown; why: Influence | null }) {
  const n = why?.[field.name];
  return (
    <div>
      <dt>{words(field.name)}{field.type && <span class="type">{field.type}</span>}</dt>
      {field.masked ? <Masked item={item} name={field.name} /> : (
        <dd class={given == null ? "missing" : ""}>
          <span>{given == null ? "missing" : value(given)}{field.values.length > 0 && given != null && !field.values.includes(String(given)) && <span class="outside"> not a known value</span>}</span>
          {field.range && typeof given === "number" && <Bar n={given} range={field.range} />}
          {n !== undefined && <Moved n={n} item={item} why={why!} />}
        </dd>
      )}
    </div>
  );
}

/** How much a field moved the answer: to the right for it, to the left against it. */
function Moved({ n, item, why }: { n: number; item: ReviewItem; why: Influence }) {
  const { left, width } = bar(n, why);
  const say = said(n, item);
  return (
    <span class={n < 0 ? "influence against" : "influence"} role="img" aria-label={say} title={say}>
      <svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">
        <rect x={left} y="1" width={width} height="10" class="push" />
        <rect x="49.6" y="0" width="0.8" height="12" class="zero" />
      </svg>
      <span class="signed">{signed(n)}</span>
    </span>
  );
}

/** The reference from its least to its greatest value, its tenths as ticks, and the value as a mark. */
function Bar({ n, range }: { n: number; range: Range }) {
  const at = where(n, range);
  const say = at === "inside" ? `between ${number(range.low)} and ${number(range.high)} in the reference` : `${at} the reference, which lies between ${number(range.low)} and ${number(range.high)}`;
  return (
    <span class={`range ${at}`} role="img" aria-label={say} title={say}>
      <span class="ends">{number(range.low)}</span>
      <svg viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">
        <rect x="0" y="5" width="100" height="2" class="track" />
        {range.quantiles.map((q, i) => <rect key={i} x={spread(q, range)} y="3" width="0.6" height="6" class="tick" />)}
        <rect x={spread(n, range) - 1} y="0" width="2" height="12" class="at" />
      </svg>
      <span class="ends">{number(range.high)}</span>
      {at !== "inside" && <span class="outside">{at} the reference</span>}
    </span>
  );
}

function Masked({ item, name }: { item: ReviewItem; name: string }) {
  const [shown, setShown] = useState<{ value: unknown } | null>(null);
  const [fault, setFault] = useState("");
  const reveal = () =>
    post<{ value: unknown }>(`${path(item)}/reveal`, { token: item.token, field: name })
      .then(setShown)
      .catch((error) => setFault(error instanceof Fault ? error.message : String(error)));
  if (shown) return <dd class={shown.value == null ? "masked missing" : "masked"}><span role="status">{shown.value == null ? "missing" : value(shown.value)}</span></dd>;
  return <dd class="masked"><span aria-hidden="true">••••••</span> <button onClick={() => void reveal()} aria-label={`Show ${words(name)}; the audit trail keeps that you did`}>Show</button> <span class="quiet">{fault || "kept in the audit trail"}</span></dd>;
}
