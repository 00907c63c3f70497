import { post } from "../api";
import { ago, clock, value, words } from "../format";
import { useData } from "../live";
import { Badge } from "../parts/badge";
import { Chart } from "../parts/chart";
import { Card, Empty, PageHead, Waiting } from "../parts/empty";
import { attempt } from "../parts/toast";
import { href } from "../route";
import { versionName } from "../series";
import { operates } from "../session";
import type { Alarm, Charts } from "../types";
import { Numbers } from "./rollout";

const OPEN = ["firing", "acknowledged", "pending", "no_data"];

export function AlarmsPage() {
  const { data, fault, reload } = useData<{ alarms: Alarm[]; now_us: number }>("/api/alarms", ["alarms"]);
  if (!data) return <><PageHead title="Alarms" /><Waiting fault={fault} /></>;
  const open = data.alarms.filter((a) => OPEN.includes(a.state));
  const past = data.alarms.filter((a) => !OPEN.includes(a.state));
  return (
    <>
      <PageHead title="Alarms" sub={`${open.length} open`} />
      <section aria-label="Open alarms" aria-live="polite">
        {open.length === 0 && <Empty title="No alarm is open">Each board is watched with the false-alarm rate that the project sets.</Empty>}
        {open.map((a) => <AlarmCard key={a.id} alarm={a} now={data.now_us} done={reload} />)}
      </section>
      {past.length > 0 && (
        <Card title="Resolved" wide>
          <ul class="plain-list">{past.map((a) => <li key={a.id}><Badge state={a.state} /> {a.message} <span class="quiet">{a.endpoint} · {clock(a.fired_us ?? a.pending_us)} – {clock(a.resolved_us)}</span></li>)}</ul>
        </Card>
      )}
    </>
  );
}

function AlarmCard({ alarm: a, now, done }: { alarm: Alarm; now: number; done: () => void }) {
  const acknowledge = () => attempt(() => post(`/api/alarms/${a.id}/acknowledge`), "Acknowledged.").then(done);
  return (
    <article class={`card wide alarm ${a.state}`} aria-label={a.message}>
      <div class="card-head"><h2>{a.message}</h2><Badge state={a.state} /></div>
      <p class="quiet">
        <a href={href("metrics", a.endpoint)}>{a.endpoint}</a> · {words(a.kind)} · {a.stage} {words(a.metric)}{a.shape && ` · ${a.shape}`} · fired {ago(a.fired_us, now)}
        {a.onset_us && ` · began about ${ago(a.onset_us, now)}`}
      </p>
      <AlarmChart alarm={a} now={now} />
      {a.actions.length > 0 && <p>Done so far: {a.actions.map(action).join("; ")}.</p>}
      <details><summary>The numbers</summary><Numbers of={Object.fromEntries(Object.entries(a.numbers).filter(([k]) => k !== "do"))} /></details>
      <div class="row commands">
        {operates() && (a.state === "firing" || a.state === "no_data") && <button class="primary" onClick={acknowledge}>Acknowledge</button>}
        {a.acknowledged_by && <span class="quiet">acknowledged by {a.acknowledged_by}, {ago(a.acknowledged_us, now)}</span>}
      </div>
    </article>
  );
}

function action(done: unknown): string {
  if (typeof done === "object" && done && "action" in done) {
    const { action: name, detail } = done as { action: string; detail?: string };
    return detail ? `${words(name)} (${detail})` : words(name);
  }
  return words(value(done));
}

function AlarmChart({ alarm: a, now }: { alarm: Alarm; now: number }) {
  const since = a.onset_us ?? a.fired_us ?? a.pending_us;
  const minutes = Math.min(44640, Math.max(5, Math.ceil(((now - since) / 60e6) * 2)));
  const path = `/api/endpoints/${encodeURIComponent(a.endpoint)}/series?minutes=${minutes}&metrics=${encodeURIComponent(a.metric)}`;
  const { data } = useData<Charts>(path, ["panes"]);
  const lines = data?.series.filter((s) => s.stage === a.stage).slice(0, 3) ?? [];
  if (!data || lines.length === 0) return null;
  return (
    <Chart title={lines[0]!.title || words(a.metric)} unit={lines[0]!.unit} height={110} from_us={data.since_us} to_us={data.now_us}
      lines={lines.map((s) => ({ name: lines.length > 1 ? versionName(s.version) : "", t_us: s.t_us, values: s.mean }))}
      markers={a.fired_us ? [{ at_us: a.fired_us, kind: "alarm", text: "fired" }] : []} />
  );
}
