import { ago, count, number, percent, short, words } from "../format";
import { useData } from "../live";
import { Badge } from "../parts/badge";
import { Dial } from "../parts/dial";
import { Card, Empty, PageHead, Waiting } from "../parts/empty";
import { stepName } from "../parts/ladder";
import { href } from "../route";
import type { Need, Overview, Summary } from "../types";

const TOPICS = ["alarms", "rollouts", "levels", "events", "panes", "reviews", "routing", "versions"];
const PAGE: Record<string, string> = { alarm: "alarms", rollout: "rollout", review: "review", conflict: "review", level: "automation", retrain: "versions" };
const VERB: Record<string, string> = { alarm: "Look at it", rollout: "Open rollout", review: "Review", conflict: "Adjudicate", level: "Decide", retrain: "See the run" };

export function OverviewPage() {
  const { data, fault } = useData<Overview>("/api/overview", TOPICS);
  if (!data) return <><PageHead title="Overview" /><Waiting fault={fault} /></>;
  return (
    <>
      <PageHead title="Overview" sub={controller(data)} />
      <Card title="Needs a person now" wide>
        {data.needs.length === 0 && <Empty title="Nothing needs you">Alarms, held rollouts and waiting reviews appear here.</Empty>}
        <ul class="needs">{data.needs.map((need, i) => <NeedRow key={i} need={need} now={data.now_us} />)}</ul>
      </Card>
      {data.endpoints.length === 0 && <Empty title="No endpoint yet">Add one under <code>endpoints</code> in tenure.yaml and run <code>tenure serve</code>.</Empty>}
      {data.endpoints.map((endpoint) => <EndpointCard key={endpoint.endpoint} endpoint={endpoint} now={data.now_us} />)}
      <Card title="What people noted" wide>
        {data.events.length === 0 && <Empty title="No notes yet">Mark what changed in the world with <code>tenure event "new lamp"</code>; every chart shows it.</Empty>}
        <ul class="plain-list">{data.events.map((e) => <li key={e.id}><b>{e.text}</b> <span class="quiet">{e.endpoint ?? "whole project"} · {e.author} · {ago(e.at_us, data.now_us)}</span></li>)}</ul>
      </Card>
    </>
  );
}

function NeedRow({ need, now }: { need: Need; now: number }) {
  return (
    <li class={need.rank === 0 ? "need bad" : need.rank < 3 ? "need warn" : "need"}>
      <span class="need-kind">{words(need.kind)}</span>
      <span class="need-text">{need.text} <span class="quiet">{need.endpoint} · {ago(need.since_us, now)}</span></span>
      <a class="button" href={href(PAGE[need.kind] ?? "metrics", need.kind === "alarm" ? "" : need.endpoint)}>{VERB[need.kind] ?? "Open"}</a>
    </li>
  );
}

function EndpointCard({ endpoint: e, now }: { endpoint: Summary; now: number }) {
  const flow = e.flow;
  return (
    <Card title={e.endpoint} side={<a href={href("metrics", e.endpoint)}>Metrics</a>} wide>
      <dl class="facts">
        <Fact name="Requests" value={flow ? `${number(flow.per_second)} /s` : "none yet"} />
        <Fact name="Decided by the model" value={percent(flow?.automated)} />
        <Fact name="Mean latency" value={flow?.latency_ms == null ? "–" : `${number(flow.latency_ms)} ms`} />
        <Fact name="Judged in 1 h" value={count(e.judged)} />
        <Fact name="In the review queue" value={count(e.review.open)} />
        <Fact name="Open alarms" value={count(e.alarms.length)} />
        <Fact name="Version" value={short(e.routing?.stable)} />
      </dl>
      {flow?.automated != null && (
        <div class="split" role="img" aria-label={`${percent(flow.automated)} decided by the model, the rest by people or the fallback`}>
          <i class="model" style={{ flexGrow: flow.automated }} /><i class="people" style={{ flexGrow: 1 - flow.automated }} />
        </div>
      )}
      {flow?.automated != null && <p class="split-key quiet"><span><i class="model" aria-hidden="true" />model {percent(flow.automated)}</span><span><i class="people" aria-hidden="true" />people or fallback {percent(1 - flow.automated)}</span></p>}
      <h3 class="gap">Degree of automation</h3>
      <Dial level={e.level} />
      {Object.keys(e.segments).length > 0 && <p><b>Apart from it:</b> {Object.entries(e.segments).map(([name, level]) => `${name} ${words(level)}`).join(", ")}.</p>}
      <p class="quiet">{e.level_since_us == null ? "From" : `Since ${ago(e.level_since_us, now)}:`} {e.level_cause}. <a href={href("automation", e.endpoint)}>Automation</a></p>
      {e.rollout ? (
        <p class="row"><Badge state={e.rollout.state} text={`rollout ${words(e.rollout.state)}`} /> {short(e.rollout.candidate)} at {stepName(e.rollout.plan.steps?.[e.rollout.step])} · step {e.rollout.step + 1} of {e.rollout.plan.steps?.length ?? 0} · <a href={href("rollout", e.endpoint)}>Ladder and evidence</a></p>
      ) : <p class="quiet">No rollout is running.</p>}
    </Card>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return <div><dt>{name}</dt><dd>{value}</dd></div>;
}

function controller(data: Overview): string {
  const workers = data.health["workers"];
  const n = Array.isArray(workers) ? workers.length : typeof workers === "number" ? workers : null;
  return n == null ? data.project : `${data.project} · ${n} ${n === 1 ? "worker" : "workers"}`;
}
