// The dialog that starts a rollout: which version, why, by which plan; the server says what that does and what it refuses.

import { useEffect, useRef, useState } from "preact/hooks";
import { Fault as CallFault, get, post } from "../api";
import { short } from "../format";
import { attempt } from "../parts/toast";
import { Gates, Limits, Problems, Steps } from "./fields";
import { elsewhere, form as typed, type Form, type FullPlan, LADDERS, type Preview, section, under } from "./plan";

type Props = { endpoint: string; versions: string[]; done: () => void };
const PAUSE_MS = 250; // between the last key and the question to the server

export function StartDialog({ endpoint, versions, done }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [open, setOpen] = useState(false);
  const show = () => { setOpen(true); dialog.current?.showModal(); };
  return (
    <>
      <button class="primary" onClick={show}>Start a rollout …</button>
      <dialog ref={dialog} class="plan-dialog" aria-labelledby="start-title" onClose={() => setOpen(false)}>
        {open && <StartForm endpoint={endpoint} versions={versions} done={done} close={() => dialog.current?.close()} />}
      </dialog>
    </>
  );
}

function StartForm({ endpoint, versions, done, close }: Props & { close: () => void }) {
  const [candidate, setCandidate] = useState(versions[0] ?? "");
  const [ladder, setLadder] = useState<string>("project");
  const [form, setForm] = useState<Form | null>(null);
  const [preview, setPreview] = useState<Preview | null>(null);
  const [lost, setLost] = useState("");
  const [busy, setBusy] = useState(false);
  const asked = useRef(0);

  useEffect(() => {
    const query = LADDERS.find(([key]) => key === ladder)?.[3] ?? "";
    let stale = false;
    get<{ plan: FullPlan }>(`/api/plan?endpoint=${encodeURIComponent(endpoint)}&${query}`)
      .then(({ plan }) => !stale && setForm(typed(plan)))
      .catch((error: unknown) => !stale && setLost(said(error)));
    return () => { stale = true; };
  }, [endpoint, ladder]);

  useEffect(() => {
    if (!form) return;
    const mine = ++asked.current;
    setPreview((p) => p && { ...p, sentences: [] });
    const timer = window.setTimeout(async () => {
      try {
        const found = await post<Preview>("/api/plan", { endpoint, candidate, plan: section(form) });
        if (mine === asked.current) { setPreview(found); setLost(""); }
      } catch (error) {
        if (mine === asked.current) setLost(said(error));
      }
    }, PAUSE_MS);
    return () => window.clearTimeout(timer);
  }, [endpoint, candidate, form]);

  const faults = preview?.faults ?? [];
  const ready = form && preview && preview.sentences.length > 0 && faults.length === 0 && !lost;
  const start = async (event: Event) => {
    event.preventDefault();
    if (!ready || busy) return;
    setBusy(true);
    const started = await attempt(() => post("/api/rollouts", { endpoint, candidate, plan: section(form) }), "The rollout is started.");
    setBusy(false);
    if (started) { close(); done(); }
  };
  return (
    <form onSubmit={start}>
      <h2 id="start-title">Start a rollout on {endpoint}</h2>
      <label class="field"><span>Version</span>
        <select value={candidate} onChange={(e) => setCandidate(e.currentTarget.value)}>{versions.map((v) => <option key={v} value={v}>{v}</option>)}</select>
        <Problems of={under(faults, "candidate").map((f) => ({ ...f, at: "" }))} />
      </label>
      <fieldset>
        <legend>What is it for?</legend>
        <div class="ladders">
          {LADDERS.map(([key, name, text]) => (
            <label key={key} class={ladder === key ? "ladder-choice on" : "ladder-choice"}>
              <input type="radio" name="ladder" checked={ladder === key} onChange={() => setLadder(key)} /><span><b>{name}</b><br /><span class="quiet">{text}</span></span>
            </label>
          ))}
        </div>
      </fieldset>
      {form && <><Steps form={form} faults={faults} change={setForm} /><Gates form={form} faults={faults} change={setForm} /><Limits form={form} faults={faults} change={setForm} /></>}
      <section class="plan-preview" aria-label="What will happen" aria-live="polite">
        <h3>What will happen</h3>
        {preview && <p>{short(candidate)} {preview.stable ? `is tried against ${short(preview.stable)}` : "is compared with nobody: no version is in force, so the steps and gates that compare are left out"}:</p>}
        {lost && <div class="notice bad" role="alert">{lost}</div>}
        <Problems of={elsewhere(faults)} />
        {faults.length > 0 && <p>Nothing starts before what is marked above is put right.</p>}
        {faults.length === 0 && <ul class="plan-words">{(preview?.sentences ?? []).map((s) => <li key={s}>{s}</li>)}</ul>}
        {!lost && faults.length === 0 && !preview?.sentences.length && <p class="quiet">Asking the server …</p>}
      </section>
      <div class="row end plan-buttons">
        {faults.length > 0 && <p class="field-fault grow" role="status"><span aria-hidden="true">▲ </span>{faults.length === 1 ? "One field is" : `${faults.length} fields are`} refused</p>}
        <button type="button" onClick={close}>Cancel</button>
        <button type="submit" class="primary" disabled={!ready || busy}>Start now</button>
      </div>
    </form>
  );
}

function said(error: unknown): string {
  return error instanceof CallFault ? error.message : String(error);
}
