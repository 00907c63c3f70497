import { useState } from "preact/hooks";
import { post } from "../api";
import { words } from "../format";
import { useData } from "../live";
import { Chart, type Marker } from "../parts/chart";
import { Card, Empty, PageHead, Waiting } from "../parts/empty";
import { Heatmap } from "../parts/heatmap";
import { Pipeline } from "../parts/pipeline";
import { attempt } from "../parts/toast";
import { group, versionName } from "../series";
import { operates } from "../session";
import type { Alarm, Charts, Endpoint, Heat } from "../types";

const WINDOWS = [[5, "5 min"], [60, "1 h"], [360, "6 h"], [1440, "1 d"], [10080, "7 d"]] as const;

export function EndpointPage({ endpoint: name }: { endpoint: string }) {
  const [minutes, setMinutes] = useState<number | null>(null);
  const query = minutes ? `?minutes=${minutes}` : "";
  const path = `/api/endpoints/${encodeURIComponent(name)}`;
  const facts = useData<Endpoint>(path, ["levels", "routing", "events", "alarms"]);
  const charts = useData<Charts>(`${path}/series${query}`, ["panes"]);
  const heat = useData<Heat>(`${path}/heatmap${query}`, ["panes"]);
  const alarms = useData<{ alarms: Alarm[] }>(`/api/alarms?endpoint=${encodeURIComponent(name)}`, ["alarms"]);
  const endpoint = facts.data;
  const head = <PageHead title={name} sub="Metrics by stage">
    <label class="inline">Window
      <select value={minutes ?? ""} onChange={(e) => setMinutes(Number(e.currentTarget.value) || null)}>
        <option value="">auto</option>
        {WINDOWS.map(([m, text]) => <option key={m} value={m}>{text}</option>)}
      </select>
    </label>
  </PageHead>;
  if (!endpoint) return <>{head}<Waiting fault={facts.fault} /></>;
  const stages = charts.data ? group(charts.data.series, endpoint.pipeline.map((s) => s.stage)) : [];
  const markers = [
    ...endpoint.events.map((e): Marker => ({ at_us: e.at_us, kind: "event", text: e.text })),
  ];
  const fired = (stage: string, metric: string): Marker[] =>
    (alarms.data?.alarms ?? []).filter((a) => a.fired_us && a.metric === metric && a.stage === stage).map((a) => ({ at_us: a.fired_us!, kind: "alarm", text: a.message }));
  return (
    <>
      {head}
      <Card title="Pipeline" wide><Pipeline endpoint={endpoint} series={charts.data?.series ?? []} /></Card>
      <AddNote endpoint={name} />
      {charts.data && stages.length === 0 && <Empty title="No measurements in this window">They appear one pane after the first request.</Empty>}
      {!charts.data && <Waiting fault={charts.fault} />}
      {stages.length > 0 && <p class="quiet marks"><span><i class="mark-event" aria-hidden="true" />note</span><span><i class="mark-alarm" aria-hidden="true" />alarm</span><span><i class="mark-limit" aria-hidden="true" />threshold</span></p>}
      {stages.map(({ name: card, charts: of }) => (
        <Card key={card} title={TITLES[card] ?? card} wide>
          <div class="charts">
            {of.map(({ stage, metric, lines }) => (
              <Chart key={stage + metric} title={lines[0]!.title || words(metric)} unit={lines[0]!.unit} from_us={charts.data!.since_us} to_us={charts.data!.now_us}
                lines={lines.map((s) => ({ name: lines.length > 1 ? versionName(s.version) : "", t_us: s.t_us, values: s.mean }))}
                limits={limits(endpoint, metric)} markers={[...markers, ...fired(stage, metric)]} />
            ))}
          </div>
        </Card>
      ))}
      <Card title="Drift: distance from the reference" wide>{heat.data ? <Heatmap heat={heat.data} /> : <Waiting fault={heat.fault} />}</Card>
    </>
  );
}

const TITLES: Record<string, string> = { input: "Input", pipeline: "Pipeline stages", output: "Output", software: "Software" };

function limits(endpoint: Endpoint, metric: string): number[] {
  const own = endpoint.thresholds.filter((t) => t.metric === metric).flatMap((t) => [t.above, t.below]).filter((v): v is number => v != null);
  return metric === "latency_ms" ? [...own, endpoint.latency_budget_s * 1000] : own;
}

function AddNote({ endpoint }: { endpoint: string }) {
  const [text, setText] = useState("");
  if (!operates()) return null;
  const submit = async (event: Event) => {
    event.preventDefault();
    if (await attempt(() => post("/api/events", { text, endpoint }), "The note is on the charts.")) setText("");
  };
  return (
    <form class="note-form" onSubmit={submit}>
      <label for="note">Mark what changed</label>
      <input id="note" type="text" required maxLength={500} placeholder="such as: new lamp on line 3" value={text} onInput={(e) => setText(e.currentTarget.value)} />
      <button type="submit">Add note</button>
    </form>
  );
}
