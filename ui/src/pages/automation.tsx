import { useState } from "preact/hooks";
import { post } from "../api";
import { ago, clock, count, number, percent, seconds, short, words } from "../format";
import { useData } from "../live";
import { Badge } from "../parts/badge";
import { Confirm } from "../parts/confirm";
import { Curve } from "../parts/curve";
import { Dial, LEVELS, MiniDial } from "../parts/dial";
import { Card, Empty, PageHead, Waiting } from "../parts/empty";
import { attempt } from "../parts/toast";
import { operates } from "../session";
import type { Automation, Bias, Certificate, Lineage, Rate, SegmentRow, Shadow } from "../types";

const RECENT = 3;
const TOPICS = ["levels", "lineages", "certificates", "routing"];

export function AutomationPage({ endpoint }: { endpoint: string }) {
  const [chosen, setChosen] = useState({ endpoint, segment: "" });
  const asked = chosen.endpoint === endpoint ? chosen.segment : ""; // another endpoint has other segments
  const { data, fault, reload } = useData<Automation>(`/api/levels?${new URLSearchParams({ endpoint, segment: asked })}`, TOPICS);
  const head = <PageHead title="Automation" sub={endpoint} />;
  if (!data) return <>{head}<Waiting fault={fault} /></>;
  const valid = data.certificates.filter((c) => c.state === "valid");
  const open = data.lineages.filter((l) => l.state !== "closed");
  const counting = open.filter((l) => l.labels > 0);
  const idle = open.filter((l) => l.labels === 0);
  const past = data.certificates.filter((c) => c.state !== "valid");
  return (
    <>
      {head}
      {data.segments.length > 0 && <Segments data={data} choose={(segment) => setChosen({ endpoint, segment })} />}
      <Card title={titled(data)} side={<Badge state="info" text={words(data.level)} />} wide>
        <Dial level={data.level} max={data.max} />
        {data.next && data.why_not_higher && <p class="notice calm"><b>Why not {words(data.next)}?</b> {data.why_not_higher}</p>}
        {operates() && <Moves data={data} done={reload} />}
      </Card>
      <Card title="Certificates in force" wide>
        {valid.length === 0 && <Empty title="No certificate is in force">Without one the model decides nothing by itself. Blind judgements of people earn it.</Empty>}
        {valid.map((c) => <CertificateRow key={c.id} certificate={c} now={data.now_us} />)}
      </Card>
      {counting.map((l) => <LineageCard key={l.id} lineage={l} certificates={valid} />)}
      {idle.length > 0 && (
        <Card title="Evidence not begun" wide>
          <ul>{idle.map((l) => <li key={l.id}>{l.side === "*" ? "all answers" : `answers “${l.side}”`} of {short(l.version)}: bound {percent(l.bound)}; it begins with the first blind judgements of this version.</li>)}</ul>
        </Card>
      )}
      {data.bias && <Suggestions bias={data.bias} />}
      {data.shadow && <Agreement data={data} shadow={data.shadow} />}
      <Card title="Every move of the level" wide>
        {data.moves.length === 0 && <Empty title="The level has not moved yet" />}
        <ol class="moves">{data.moves.map((m) => <li key={m.id}><span class="when">{clock(m.at_us)}</span><span><b>{words(m.from_level)} → {words(m.to_level)}</b> {m.cause} <span class="quiet">{m.author}</span></span></li>)}</ol>
      </Card>
      {past.length > 0 && (
        <Card title="Past certificates" wide>
          {past.slice(0, RECENT).map((c) => <CertificateRow key={c.id} certificate={c} now={data.now_us} />)}
          {past.length > RECENT && (
            <details>
              <summary>{count(past.length - RECENT)} older</summary>
              {past.slice(RECENT).map((c) => <CertificateRow key={c.id} certificate={c} now={data.now_us} />)}
            </details>
          )}
        </Card>
      )}
    </>
  );
}

function titled({ by, segment }: Automation) {
  return by ? `Degree of automation · ${segmentName(by, segment)}` : "Degree of automation";
}

function segmentName(by: string, segment: string) {
  if (!segment) return `every other ${by}`;
  return by === "unit" ? segment : `${by} ${segment}`; // a unit's name says what it is
}

/** Each segment as a row; the endpoint's own level, which has all others, comes last. */
function Segments({ data, choose }: { data: Automation; choose: (segment: string) => void }) {
  const by = data.by ?? "";
  const rows = [...data.segments.filter((r) => r.segment), ...data.segments.filter((r) => !r.segment)];
  return (
    <Card title={`Levels by ${by}`} wide>
      <ol class="segments">{rows.map((r) => <Segment key={r.segment} row={r} name={segmentName(by, r.segment)} open={r.segment === data.segment} choose={choose} />)}</ol>
      <p class="quiet">{data.promise}. A certificate of one lifts no other.</p>
    </Card>
  );
}

function Segment({ row: r, name, open, choose }: { row: SegmentRow; name: string; open: boolean; choose: (segment: string) => void }) {
  const held = r.certificates === 1 ? "1 certificate" : r.certificates ? `${count(r.certificates)} certificates` : "no certificate";
  const next = r.next && r.why_not_higher ? `Next, ${words(r.next)}: ${r.why_not_higher}` : "As high as the project allows.";
  return (
    <li>
      <button aria-pressed={open} onClick={() => choose(r.segment)}>{name}</button>
      <span class="segment-level"><MiniDial level={r.level} max={r.max} /><b>{words(r.level)}</b></span>
      <span class="quiet">{count(r.labels)} blind labels · {held}</span>
      <span class="segment-next">{next}</span>
    </li>
  );
}

function Moves({ data, done }: { data: Automation; done: () => void }) {
  const at = LEVELS.indexOf(data.level as (typeof LEVELS)[number]);
  const top = LEVELS.indexOf(data.max as (typeof LEVELS)[number]);
  const move = (to: string) => () =>
    attempt(() => post("/api/levels", { endpoint: data.endpoint, segment: data.segment, to, approve: true }), `The level is ${words(to)}.`).then(done);
  const [up, down] = [LEVELS[at + 1], LEVELS[at - 1]];
  return (
    <div class="row commands">
      {up && at < top && <Confirm label={`Up to ${words(up)}`} primary reason={false} title={`Go up to ${words(up)}?`} text="tenure checks the evidence and refuses with the missing number when it does not suffice." onConfirm={move(up)} />}
      {down && <Confirm label={`Down to ${words(down)}`} reason={false} title={`Go down to ${words(down)}?`} text="More goes to people at once. Going up again needs its evidence." onConfirm={move(down)} />}
      {at > 0 && <Confirm label="People decide all" danger reason={false} title="Let people decide everything?" text="The model decides nothing any more, at once." onConfirm={move("human_only")} />}
    </div>
  );
}

function CertificateRow({ certificate: c, now }: { certificate: Certificate; now: number }) {
  return (
    <article class="certificate">
      <div class="gate-head"><h3>{c.side === "*" ? "all answers" : `answers “${c.side}”`} · {short(c.version)}</h3><Badge state={c.state} /></div>
      <p class="claim">{c.claim}</p>
      <p class="quiet">confidence ≥ {number(c.threshold)} · {c.k} wrong of {count(c.n)} · covers {percent(c.coverage)} · {c.state === "valid" ? `ends in ${seconds((c.expires_us - now) / 1e6)}` : `${ago(c.ended_us, now)}: ${c.cause}`}</p>
    </article>
  );
}

function LineageCard({ lineage: l, certificates }: { lineage: Lineage; certificates: Certificate[] }) {
  const inForce = certificates.find((c) => c.version === l.version && c.side === l.side);
  return (
    <Card title={`Evidence for ${l.side === "*" ? "all answers" : `“${l.side}”`} · ${short(l.version)}`} side={<Badge state={l.state === "open" ? "running" : "wait"} text={l.state === "open" ? "counting" : words(l.state)} />} wide>
      <div class="two">
        <div>
          <p>{l.note}</p>
          <dl class="facts small">
            <div><dt>Blind labels</dt><dd>{count(l.labels)}</dd></div>
            <div><dt>Attempt</dt><dd>{count(l.attempt)}</dd></div>
            <div><dt>Bound</dt><dd>{percent(l.bound)}</dd></div>
            <div><dt>Confidence</dt><dd>{percent(1 - l.delta)}</dd></div>
          </dl>
        </div>
        {l.curve.some((p) => p.n > 0) ? <Curve lineage={l} threshold={inForce?.threshold} /> : <Empty title="No curve yet">It appears with the first blind judgements of this version's answers.</Empty>}
      </div>
    </Card>
  );
}

function wholeReport({ endpoint, by, segment }: Automation, version: string, format: string) {
  return `/api/shadow-report?${new URLSearchParams({ endpoint, version, format, ...(by ? { segment } : {}) })}`;
}

function Suggestions({ bias: b }: { bias: Bias }) {
  const rows: [string, Rate][] = [
    ["Wrong suggestion seen: followed", b.shown],
    ["Wrong suggestion unseen: same mistake", b.blind],
    ["All readings, suggestion seen: agree with it", b.agree_shown],
    ["All readings, unseen: agree with it", b.agree_blind],
  ];
  return (
    <Card title="Do people lean on the model?" side={<Badge state={b.shown_worse ? "wait" : "info"} text={b.shown_worse ? "they do" : "not shown"} />} wide>
      <p class="claim">{b.sentence}</p>
      <div class="scroll" tabIndex={0} role="region" aria-label="People with and without the suggestion">
        <table>
          <thead><tr><th scope="col">Reading</th><th scope="col">Share</th><th scope="col">95 % interval</th><th scope="col">Readings</th></tr></thead>
          <tbody>{rows.map(([name, r]) => (
            <tr key={name}><th scope="row">{name}</th><td>{r.share === null ? "no data" : percent(r.share)}</td><td class="nowrap">{r.share === null ? "" : `${percent(r.low)} – ${percent(r.high)}`}</td><td>{count(r.n)}</td></tr>
          ))}</tbody>
        </table>
      </div>
    </Card>
  );
}

function Agreement({ data, shadow: s }: { data: Automation; shadow: Shadow }) {
  return (
    <Card title={`${short(s.version)} and people, read blind${data.by ? ` · ${segmentName(data.by, data.segment)}` : ""}`} wide>
      <p class="claim">{s.sentence}</p>
      <p class="small">The whole report: <a href={wholeReport(data, s.version, "html")} download>page to hand on</a>, <a href={wholeReport(data, s.version, "json")} download>JSON</a>.</p>
      {s.directions.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Directions of disagreement">
          <table>
            <thead><tr><th scope="col">Model said</th><th scope="col">People said</th><th scope="col">Share of the model's answer</th><th scope="col">95 % interval</th><th scope="col">Counts</th></tr></thead>
            <tbody>{s.directions.map((d) => (
              <tr key={d.model + d.person}><th scope="row">{d.model}</th><td>{d.person}</td><td>{percent(d.share)}</td><td class="nowrap">{percent(d.low)} – {percent(d.high)}</td><td>{count(d.count)} of {count(d.of)}</td></tr>
            ))}</tbody>
          </table>
        </div>
      )}
    </Card>
  );
}
