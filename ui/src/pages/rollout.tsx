import { Fragment } from "preact";
import { useState } from "preact/hooks";
import { post } from "../api";
import { ago, clock, count, short, value, words } from "../format";
import { useData } from "../live";
import { Badge } from "../parts/badge";
import { Confirm } from "../parts/confirm";
import { Card, Empty, PageHead, Waiting } from "../parts/empty";
import { EvidenceList } from "../parts/evidence";
import { Ladder, stepName } from "../parts/ladder";
import { attempt } from "../parts/toast";
import { href } from "../route";
import type { FullPlan } from "../rollout/plan";
import { StartDialog } from "../rollout/start";
import { forecast } from "../rollout/wording";
import { me, operates } from "../session";
import type { Rollout, RolloutDetail, Summary, Version } from "../types";

const OPEN = ["draft", "running", "paused"];

export function RolloutPage({ endpoint, id }: { endpoint: string; id: string }) {
  const name = encodeURIComponent(endpoint);
  const list = useData<{ rollouts: Rollout[]; now_us: number }>(`/api/rollouts?endpoint=${name}`, ["rollouts"]);
  const current = id || list.data?.rollouts.find((r) => OPEN.includes(r.state))?.id || list.data?.rollouts[0]?.id;
  const detail = useData<RolloutDetail>(current ? `/api/rollouts/${encodeURIComponent(current)}` : null, ["rollouts", "evidence", "routing"]);
  const head = <PageHead title="Rollout" sub={endpoint} />;
  if (!list.data) return <>{head}<Waiting fault={list.fault} /></>;
  const running = list.data.rollouts.some((r) => OPEN.includes(r.state));
  const reload = () => { list.reload(); detail.reload(); };
  return (
    <>
      {head}
      {!running && <Start endpoint={endpoint} done={reload} />}
      {detail.data && <Detail rollout={detail.data} done={reload} />}
      {list.data.rollouts.length > 0 && <History rollouts={list.data.rollouts} now={list.data.now_us} current={current ?? ""} />}
    </>
  );
}

function Start({ endpoint, done }: { endpoint: string; done: () => void }) {
  const name = encodeURIComponent(endpoint);
  const versions = useData<{ versions: Version[] }>(`/api/versions?endpoint=${name}`, ["versions", "routing"]);
  const facts = useData<Summary>(`/api/endpoints/${name}`, ["routing"]);
  const stable = facts.data?.routing?.stable ?? null;
  const choices = (versions.data?.versions ?? []).filter((v) => v.id !== stable && v.state !== "retired");
  return (
    <Card wide>
      <Empty title="No rollout is running">
        {choices.length ? "Start one: the version climbs a ladder that you choose, and falls back by itself when the evidence turns against it." : "Register another version with “tenure register” to start one."}
      </Empty>
      {operates() && choices.length > 0 && <div class="row center"><StartDialog endpoint={endpoint} versions={choices.map((v) => v.id)} done={done} /></div>}
    </Card>
  );
}

function Detail({ rollout: r, done }: { rollout: RolloutDetail; done: () => void }) {
  const here = r.verdicts.filter((v) => v.step === r.step);
  const verdicts = here.length ? here : r.verdicts.slice(-4);
  return (
    <>
      <Card title={`${short(r.candidate)} replaces ${r.stable ? short(r.stable) : "people only"}`} side={<Badge state={r.state} />} wide>
        <Ladder rollout={r} />
        {r.reason && <p>{r.reason}</p>}
        <p class="quiet">At this step since {ago(r.step_started_us, r.now_us)} · attempt {r.attempt} · started by {r.created_by} · <code>{r.candidate}</code></p>
        {(r.waits ?? []).length > 0 && <ul class="waits">{(r.waits ?? []).map((w) => <li key={w}>{w}</li>)}</ul>}
        <Outlook rollout={r} />
        {operates() && OPEN.includes(r.state) && <Commands rollout={r} done={done} />}
      </Card>
      <Card title="Evidence" wide>
        {verdicts.length === 0 ? <Empty title="No evidence yet">Each gate says here how far it is from its limit.</Empty>
          : <EvidenceList verdicts={verdicts} rollout={r} />}
        {verdicts.length > 0 && <p class="quiet">The bar is the evidence that the candidate is worse; at its end the rollout falls back by itself. It stays valid however often it is looked at. “Not contradicted” says only that no harm was seen so far; “shown” says that harm beyond the margin is ruled out.</p>}
      </Card>
      <Card title="Moves" wide>
        <ol class="moves">
          {r.moves.toReversed().map((m) => (
            <li key={m.id}>
              <span class="when">{clock(m.at_us)}</span>
              <span><b>{m.from_state === m.to_state ? `${stepName(r.plan.steps?.[m.from_step])} → ${stepName(r.plan.steps?.[m.to_step])}` : `${words(m.from_state)} → ${words(m.to_state)}`}</b> {m.reason} <span class="quiet">{m.author}</span>
                {Object.keys(m.numbers).length > 0 && <details><summary>The numbers</summary><Numbers of={m.numbers} /></details>}
              </span>
            </li>
          ))}
        </ol>
      </Card>
    </>
  );
}

/** Whose word is wanted, when the step can be decided, and what is still on its way. */
function Outlook({ rollout: r }: { rollout: RolloutDetail }) {
  const rows = [
    r.asks && (["Asks", r.asks] as const),
    r.approved_by && (["Approved by", r.approved_by] as const),
    r.forecast && (["Forecast", forecast(r)] as const),
    ...Object.entries(r.outstanding ?? {}).filter(([, n]) => n > 0).map(([gate, n]) => ["Outstanding", outstanding(gate, n)] as const),
  ].filter(Boolean) as (readonly [string, string])[];
  if (rows.length === 0) return null;
  return <dl class="outlook">{rows.map(([k, v]) => <Fragment key={k + v}><dt>{k}</dt><dd>{v}</dd></Fragment>)}</dl>;
}

function outstanding(gate: string, n: number): string {
  if (gate === "wrong_decision") return `${count(n)} requests drawn to be judged that nobody has judged yet`;
  return `${count(n)} requests young enough for ${words(gate.replace("reaction:", "a reaction: "))}`;
}

export function Numbers({ of }: { of: Record<string, unknown> }) {
  return <dl class="numbers">{Object.entries(of).map(([k, v]) => <div key={k}><dt>{words(k)}</dt><dd>{typeof v === "number" ? Number(v.toPrecision(4)) : value(v)}</dd></div>)}</dl>;
}

/** Go to another step; back draws anew and begins with no evidence. */
function Jump({ rollout: r, barred, done }: { rollout: RolloutDetail; barred: boolean; done: () => void }) {
  const others = (r.plan.steps ?? []).map((step, i) => ({ step, i })).filter(({ i }) => i !== r.step && (i < r.step || !barred));
  const [chosen, setTo] = useState(0);
  const to = others.some(({ i }) => i === chosen) ? chosen : (others[0]?.i ?? 0);
  if (others.length === 0) return null;
  const goal = `${short(r.candidate)} goes to ${stepName(r.plan.steps?.[to])} at once.`;
  const text = to < r.step ? `${goal} Requests are drawn anew and the evidence begins at nothing; this counts as another attempt.` : `${goal} Steps between are left out, with what they would have shown; the evidence so far is kept.`;
  return (
    <>
      <label class="inline">Step
        <select aria-label="Step to jump to" value={to} onChange={(e) => setTo(Number(e.currentTarget.value))}>{others.map(({ step, i }) => <option key={i} value={i}>{i + 1}: {stepName(step)}</option>)}</select>
      </label>
      <Confirm label="Jump" title={`Jump to step ${to + 1}?`} text={text}
        onConfirm={(reason) => attempt(() => post(`/api/rollouts/${encodeURIComponent(r.id)}/jump`, { reason, step: to }), "The rollout jumped.").then(done)} />
    </>
  );
}

function Commands({ rollout: r, done }: { rollout: RolloutDetail; done: () => void }) {
  const steps = r.plan.steps ?? [], here = steps[r.step], next = steps[r.step + 1];
  const run = (command: string, said: string) => (reason: string) =>
    attempt(() => post(`/api/rollouts/${encodeURIComponent(r.id)}/${command}`, { reason }), said).then(done);
  const name = short(r.candidate), old = r.stable ? short(r.stable) : "people";
  const barred = Boolean((r.plan as Partial<FullPlan>).second_person) && me.value?.name === r.created_by;
  const running = r.state === "running";
  return (
    <>
      {barred && <p class="quiet">You started it, and its plan wants a second person: somebody else approves, promotes or jumps up.</p>}
      <div class="row commands">
        {running && <Confirm label="Pause" title={`Pause ${name}?`} text={`It stays at ${stepName(here)}, and no step is taken until you resume. A gate that fails still rolls back.`} onConfirm={run("pause", "The rollout is paused.")} />}
        {r.state === "paused" && <Confirm label="Resume" primary title={`Resume ${name}?`} text={`It goes on at ${stepName(here)}; steps are taken again when their gates allow it.`} onConfirm={run("resume", "The rollout runs again.")} />}
        {running && !barred && here?.approve && !r.approved_by && <Confirm label="Approve" primary title={`Approve step ${r.step + 1} of ${name}?`} text={`It goes to ${next ? stepName(next) : "completion"} once everything else that the step wants is there. Any move makes the approval void.`} onConfirm={run("approve", "The step is approved.")} />}
        {running && !barred && <Confirm label="Promote" title={`Promote ${name} now?`} text={`It ${next ? `goes to ${stepName(next)}` : `completes and replaces ${old}`} at once, without waiting for the rest of the evidence. This is your decision, and recorded as yours.`} onConfirm={run("promote", "The candidate is promoted.")} />}
        {r.state === "draft" ? <Confirm label="Cancel" title={`Cancel ${name}?`} text="The draft is closed." onConfirm={run("cancel", "The rollout is cancelled.")} />
          : <Confirm label="Roll back" danger title={`Roll back ${name}?`} text={`${r.stable ? old : "People"} answer every request again, within a fraction of a second. The rollout ends; another one starts with no evidence.`} onConfirm={run("rollback", "Rolled back.")} />}
        {r.state !== "draft" && <Jump rollout={r} barred={barred} done={done} />}
      </div>
    </>
  );
}

function History({ rollouts, now, current }: { rollouts: Rollout[]; now: number; current: string }) {
  return (
    <Card title="All rollouts" wide>
      <div class="scroll" tabIndex={0} role="region" aria-label="Table of all rollouts">
        <table>
          <thead><tr><th scope="col">Candidate</th><th scope="col">State</th><th scope="col">Reached</th><th scope="col">Why</th><th scope="col">When</th></tr></thead>
          <tbody>
            {rollouts.map((r) => (
              <tr key={r.id} class={r.id === current ? "here" : ""}>
                <td><a href={href("rollout", r.endpoint, r.id)}>{short(r.candidate)}</a></td>
                <td><Badge state={r.state} /></td>
                <td>{stepName(r.plan.steps?.[r.step])}</td>
                <td class="long">{r.reason || "–"}</td>
                <td class="nowrap">{ago(r.created_us, now)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}
