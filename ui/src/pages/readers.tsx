// How each reader does: speed, agreement with known truths, overrides, falls; and which labels people mix up.

import { useState } from "preact/hooks";
import { count, percent, seconds } from "../format";
import { useData } from "../live";
import { Card, Empty, PageHead, Waiting } from "../parts/empty";
import { href } from "../route";
import { me } from "../session";

type Share = { k: number; n: number; share: number | null; low: number; high: number; few: boolean };
type Reader = {
  reader: string; judgements: number; skips: number; median_s: number | null; p90_s: number | null;
  gold: Share; double: Share; overrides: Share;
  decline: { n: number; wrong: number; log_e: number; needed: number; fallen_at: number | null };
};
type Conventions = {
  clarify: string;
  pairs: { readers: [string, string]; agreement: Share }[];
  confusions: { labels: [string, string]; n: number; of: number; few: boolean }[];
  habits: { reader: string; labels: [string, string]; n: number; reverse: number; right: number; p: number; shown: boolean }[];
};
type Answer = { readers: Reader[]; conventions: Conventions | null; own: boolean };

export function ReadersPage({ endpoint }: { endpoint: string }) {
  const [days, setDays] = useState(30);
  const path = `/api/reviews/readers?endpoint=${encodeURIComponent(endpoint)}&days=${days}`;
  const { data, fault } = useData<Answer>(path, ["reviews"]);
  const others = me.value!.endpoints.filter((name) => name !== endpoint);
  return (
    <>
      <PageHead title="Readers" sub={<>{endpoint}{others.map((name) => <> · <a href={href("readers", name)}>{name}</a></>)}</>}>
        <label class="inline" for="days">Last</label>
        <select id="days" value={days} onChange={(e) => setDays(Number(e.currentTarget.value))}>
          {[7, 30, 90, 365].map((n) => <option key={n} value={n}>{n} days</option>)}
        </select>
      </PageHead>
      {!data && <Waiting fault={fault} />}
      {data?.readers.length === 0 && <Empty title="Nobody has judged anything in this time">Readers appear here with their first judgement.</Empty>}
      {data && data.readers.length > 0 && <Table answer={data} />}
      {data?.conventions && data.readers.length > 0 && <Habits found={data.conventions} />}
    </>
  );
}

function Table({ answer }: { answer: Answer }) {
  return (
    <Card title={answer.own ? "Your readings" : "Every reader"} wide>
      {answer.own && <p class="quiet">Agreement is told up to the last midnight (UTC).</p>}
      <div class="scroll" tabIndex={0} role="region" aria-label="Readers">
        <table>
          <thead>
            <tr>
              <th scope="col">Reader</th><th scope="col">Judged</th><th scope="col">Skipped</th><th scope="col">Median</th><th scope="col">p90</th>
              <th scope="col">Right on gold</th><th scope="col">Right on double reads</th><th scope="col">Suggestion not followed</th><th scope="col">Agreement</th>
            </tr>
          </thead>
          <tbody>
            {answer.readers.map((r) => (
              <tr key={r.reader}>
                <th scope="row">{r.reader}</th><td>{count(r.judgements)}</td><td>{count(r.skips)}</td><td class="nowrap">{seconds(r.median_s)}</td><td class="nowrap">{seconds(r.p90_s)}</td>
                <td><Of share={r.gold} /></td><td><Of share={r.double} /></td><td><Of share={r.overrides} /></td><td><Fall reader={r} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

function Of({ share }: { share: Share }) {
  if (share.n === 0) return <span class="quiet">none</span>;
  return (
    <>
      <span class="nowrap">{percent(share.share)} <span class="quiet">({share.k} of {share.n})</span></span><br />
      <span class="quiet nowrap">{percent(share.low, 0)} to {percent(share.high, 0)}</span>
      {share.few && <><br /><span class="quiet nowrap">too few to say</span></>}
    </>
  );
}

function Fall({ reader }: { reader: Reader }) {
  const { fallen_at, n } = reader.decline;
  if (fallen_at != null) return <strong>▼ fallen, shown at reading {fallen_at} of {n}</strong>;
  return <span class="quiet">{n ? `no fall shown in ${n}` : "nothing checked yet"}</span>;
}

function Habits({ found }: { found: Conventions }) {
  return (
    <Card title="Conventions" wide>
      <p>{found.clarify[0]!.toUpperCase() + found.clarify.slice(1)}.</p>
      {found.confusions.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Labels that are mixed up">
          <table>
            <thead><tr><th scope="col">Mixed up</th><th scope="col">Times</th><th scope="col">Of double readings with either</th><th scope="col">Whose habit</th></tr></thead>
            <tbody>
              {found.confusions.map((c) => (
                <tr key={c.labels.join("|")}>
                  <td>{c.labels[0]} / {c.labels[1]}</td><td>{c.n}</td><td>{c.of}{c.few && <span class="quiet"> (too few to say)</span>}</td>
                  <td class="nowrap">{habitsOf(found, c.labels) || <span class="quiet">none shown</span>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {found.pairs.length > 0 && (
        <ul class="plain-list">
          {found.pairs.map((p) => <li key={p.readers.join("|")}>{p.readers[0]} and {p.readers[1]}: <Of share={p.agreement} /></li>)}
        </ul>
      )}
    </Card>
  );
}

function habitsOf(found: Conventions, labels: [string, string]): string {
  return found.habits
    .filter((h) => h.shown && labels.includes(h.labels[0]) && labels.includes(h.labels[1]))
    .map((h) => `${h.reader} says ${h.labels[0]} (${h.n} : ${h.reverse}, right ${h.right} times)`)
    .join("; ");
}
