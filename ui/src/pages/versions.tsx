import { post } from "../api";
import { ago, clock, seconds, value, words } from "../format";
import { useData } from "../live";
import { Badge } from "../parts/badge";
import { Confirm } from "../parts/confirm";
import { Card, Empty, PageHead, Waiting } from "../parts/empty";
import { attempt } from "../parts/toast";
import { operates } from "../session";
import type { RetrainRun, Summary, Version } from "../types";
import { Numbers } from "./rollout";

export function VersionsPage({ endpoint }: { endpoint: string }) {
  const name = encodeURIComponent(endpoint);
  const versions = useData<{ versions: Version[]; now_us: number }>(`/api/versions?endpoint=${name}`, ["versions"]);
  const runs = useData<{ runs: RetrainRun[]; now_us: number; command: string | null; min_labels: number }>(`/api/retrain?endpoint=${name}`, ["retrain"]);
  const facts = useData<Summary>(`/api/endpoints/${name}`, ["routing"]);
  const route = facts.data?.routing;
  const role = (id: string) => (id === route?.stable ? "stable" : id === route?.candidate ? "candidate" : route?.shadows.includes(id) ? "shadow" : "");
  return (
    <>
      <PageHead title="Versions and retraining" sub={endpoint} />
      <Card title="Versions" wide>
        {!versions.data && <Waiting fault={versions.fault} />}
        {versions.data?.versions.length === 0 && <Empty title="No version yet">Register one with <code>tenure register</code>.</Empty>}
        <ul class="versions">
          {versions.data?.versions.map((v) => (
            <li key={v.id}>
              <div class="gate-head"><h3>{v.id}</h3><span class="row">{role(v.id) && <Badge state="live" text={role(v.id)} />}<Badge state={v.state} /></span></div>
              <p class="quiet">{clock(v.created_us)} by {v.created_by}</p>
              {Object.keys(v.provenance).length > 0 && <details><summary>Where it comes from</summary><Numbers of={v.provenance} /></details>}
            </li>
          ))}
        </ul>
      </Card>
      <Card title="Retraining" wide side={operates() && runs.data?.command ? (
        <Confirm label="Retrain now" title="Retrain on what people said?" text={`Runs “${runs.data.command}” on the collected judgements. The result is registered, not deployed.`}
          onConfirm={(cause) => attempt(() => post("/api/retrain", { endpoint, cause }), "Retraining has started.").then(runs.reload)} />
      ) : undefined}>
        {!runs.data && <Waiting fault={runs.fault} />}
        {runs.data?.runs.length === 0 && <Empty title="Nothing was retrained yet">{runs.data.command ? `A run needs ${runs.data.min_labels} labels.` : "Set endpoints.….retrain.command in tenure.yaml to the command that trains your model."}</Empty>}
        {runs.data?.runs.map((r) => <Run key={r.id} run={r} now={runs.data!.now_us} />)}
      </Card>
    </>
  );
}

function Run({ run: r, now }: { run: RetrainRun; now: number }) {
  return (
    <article class="certificate">
      <div class="gate-head"><h3>{r.cause || "retraining"}</h3><Badge state={r.state} /></div>
      <p class="quiet">{ago(r.started_us, now)}{r.ended_us && `, took ${seconds((r.ended_us - r.started_us) / 1e6)}`} · data {value(r.snapshot)}{r.version && ` · made ${r.version}`}</p>
      {Object.keys(r.metrics).length > 0 && <Numbers of={Object.fromEntries(Object.entries(r.metrics).map(([k, v]) => [words(k), v]))} />}
      {r.log && <details><summary>Last lines of its output</summary><pre tabIndex={0}>{r.log}</pre></details>}
    </article>
  );
}
