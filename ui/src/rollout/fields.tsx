// The fields of a plan: its steps, its gates, its limits; each refusal stands below its field.

import type { ComponentChildren } from "preact";
import { words } from "../format";
import { type Fault, type Form, type GateForm, more, type StepForm, under, USUAL } from "./plan";

type Props = { form: Form; faults: Fault[]; change: (form: Form) => void };

function Faults({ of, id }: { of: Fault[]; id: string }) {
  if (of.length === 0) return null;
  return <div id={id} class="field-faults">{of.map((f) => <p key={f.at + f.text} class="field-fault"><span aria-hidden="true">▲ </span>{f.text}</p>)}</div>;
}

function Field({ label, value, at, faults, quiet, set }: { label: string; value: string; at: string; faults: Fault[]; quiet?: boolean; set: (text: string) => void }) {
  const mine = faults.filter((f) => f.at === at);
  const id = `fault-${at.replace(/\W+/g, "-")}`;
  return (
    <label class="field">
      <span>{label}</span>
      <input type="text" value={value} autoComplete="off" aria-invalid={mine.length > 0} aria-describedby={mine.length ? id : undefined} onInput={(e) => set(e.currentTarget.value)} />
      {!quiet && <Faults of={mine} id={id} />}
    </label>
  );
}

export function Steps({ form, faults, change }: Props) {
  const put = (i: number, part: Partial<StepForm>) => change({ ...form, steps: form.steps.map((s, n) => (n === i ? { ...s, ...part } : s)) });
  return (
    <fieldset>
      <legend>Steps</legend>
      <ol class="plan-steps">
        {form.steps.map((s, i) => {
          const at = `steps[${i}]`, mine = under(faults, at);
          const field = (key: "min" | "min_labels" | "bake", label: string) => <Field label={label} value={s[key]} at={`${at}.${key}`} faults={faults} quiet set={(text) => put(i, { [key]: text })} />;
          return (
            <li key={i} class={mine.length ? "plan-step wrong" : "plan-step"} aria-label={`Step ${i + 1}`}>
              <b class="plan-number">{i + 1}</b>
              <label class="field"><span>Answers</span>
                <select value={s.kind} onChange={(e) => put(i, { kind: e.currentTarget.value as StepForm["kind"], share: e.currentTarget.value === "shadow" ? "100%" : s.share })}>
                  <option value="shadow">unseen</option><option value="share">seen</option>
                </select>
              </label>
              <Field label="Share" value={s.share} at={`${at}.${s.kind}`} faults={faults} quiet set={(text) => put(i, { share: text })} />
              {field("min", "Its requests")}{field("min_labels", "Judged")}{field("bake", "Lasts")}
              <label class="check"><input type="checkbox" checked={s.approve} onChange={(e) => put(i, { approve: e.currentTarget.checked })} /> Approval</label>
              <button type="button" class="plain" aria-label={`Remove step ${i + 1}`} disabled={form.steps.length < 2} onClick={() => change({ ...form, steps: form.steps.filter((_, n) => n !== i) })}>✕</button>
              <Faults of={mine} id={`fault-steps-${i}`} />
            </li>
          );
        })}
      </ol>
      <Faults of={faults.filter((f) => f.at === "steps")} id="fault-steps" />
      <div class="row"><button type="button" onClick={() => change({ ...form, steps: more(form.steps) })}>Add a step</button>
        <span class="quiet">A step goes on once the version answered so many requests, so many of them were judged, it lasted so long, and every gate lets it.</span></div>
    </fieldset>
  );
}

export function Gates({ form, faults, change }: Props) {
  const extra = form.gates.filter((g) => !USUAL.some(([name]) => g.rest.bad === name));
  const names = [...USUAL.map(([name, text]) => [name, text] as const), ...extra.map((g) => [gateName(g), words(gateName(g))] as const)];
  const toggle = (name: string, on: boolean) => change({ ...form, gates: on ? [...form.gates, { rest: { bad: name, alpha: 0.05 }, alpha: "5%" }] : form.gates.filter((g) => gateName(g) !== name) });
  return (
    <fieldset>
      <legend>Gates</legend>
      <p class="quiet">Each is watched all the time; harm in one rolls back by itself. “Chance” is how often a version that is no worse may be rolled back.</p>
      <ul class="plan-gates">
        {names.map(([name, text]) => {
          const i = form.gates.findIndex((g) => gateName(g) === name), at = `gates[${i}]`;
          return (
            <li key={name}>
              <label class="check"><input type="checkbox" checked={i >= 0} onChange={(e) => toggle(name, e.currentTarget.checked)} /> {text}</label>
              {i >= 0 && <Field label="Chance" value={form.gates[i]!.alpha} at={`${at}.alpha`} faults={faults} quiet set={(alpha) => change({ ...form, gates: form.gates.map((g, n) => (n === i ? { ...g, alpha } : g)) })} />}
              {i >= 0 && <Faults of={under(faults, at)} id={`fault-gates-${i}`} />}
            </li>
          );
        })}
      </ul>
      <Faults of={faults.filter((f) => f.at === "gates")} id="fault-gates" />
      <Choice legend="A step passes when each gate is" at="advance" faults={faults} value={form.advance} set={(advance) => change({ ...form, advance })} options={[
        ["not_contradicted", "not contradicted", "nothing seen so far says that the version is worse; with few cases that says little"],
        ["shown", "shown to be no worse", "the cases are enough to rule out that it is worse by more than the margin; this takes longer"],
      ]} />
    </fieldset>
  );
}

function gateName(g: GateForm): string {
  return g.rest.bad || `mean:${g.rest.mean}`;
}

function Choice<T extends string>({ legend, options, value, at, faults, set }: { legend: string; options: readonly (readonly [T, string, string])[]; value: T; at: string; faults: Fault[]; set: (value: T) => void }) {
  return (
    <div role="radiogroup" aria-label={legend} class="choice">
      <p><b>{legend}</b></p>
      {options.map(([key, name, text]) => <label key={key} class="check"><input type="radio" name={at} checked={value === key} onChange={() => set(key)} /><span><b>{name}</b>: {text}</span></label>)}
      <Faults of={under(faults, at)} id={`fault-${at}`} />
    </div>
  );
}

export function Limits({ form, faults, change }: Props) {
  const field = (key: "deadline" | "operator_silence" | "keep_warm", label: string) => <Field label={label} value={form[key]} at={key} faults={faults} set={(text) => change({ ...form, [key]: text })} />;
  return (
    <fieldset>
      <legend>Limits</legend>
      <div class="plan-limits">
        {field("deadline", "Pause if not done within (0s: never)")}
        {field("operator_silence", "Pause if it asks and nobody looks for (0s: never)")}
        {field("keep_warm", "Keep the old version loaded afterwards for")}
      </div>
      <label class="check"><input type="checkbox" checked={form.second_person} onChange={(e) => change({ ...form, second_person: e.currentTarget.checked })} /> Somebody else than whoever starts it has to approve, promote or jump up</label>
    </fieldset>
  );
}

export function Problems({ children, of }: { children?: ComponentChildren; of: Fault[] }) {
  if (of.length === 0) return null;
  return <div class="notice bad" role="status">{children}{of.map((f) => <p key={f.at + f.text}>{f.at && <code>{f.at}</code>} {f.text}</p>)}</div>;
}
