import { useState } from "preact/hooks";
import { get } from "../api";
import { clock, short, value, words } from "../format";
import { useData } from "../live";
import { Card, Empty, PageHead, Waiting } from "../parts/empty";
import { attempt, say } from "../parts/toast";
import type { AuditRow } from "../types";

type Answer = { audit: AuditRow[]; broken_at: number | null; verified: boolean };

export function AuditPage() {
  const [before, setBefore] = useState<number | null>(null);
  const { data, fault } = useData<Answer>(`/api/audit${before ? `?before=${before}` : ""}`, before ? [] : ["audit"]);
  const verify = () => attempt(async () => {
    const answer = await get<Answer>("/api/audit?limit=1&verify=1");
    if (answer.broken_at != null) say(`Row ${answer.broken_at} was altered.`, true);
  }, "The chain was checked.");
  return (
    <>
      <PageHead title="Audit trail" sub="Every command, in a chain of hashes"><button onClick={() => void verify()}>Check the chain</button></PageHead>
      <LiveAt />
      <Card wide>
        {!data && <Waiting fault={fault} />}
        {data?.audit.length === 0 && <Empty title="Nothing was commanded yet">Rollouts, levels, judgements and notes are recorded here with who and when.</Empty>}
        {data && data.audit.length > 0 && (
          <div class="scroll" tabIndex={0} role="region" aria-label="Audit trail">
            <table>
              <thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th><th scope="col">On</th><th scope="col">Detail</th></tr></thead>
              <tbody>
                {data.audit.map((r) => (
                  <tr key={r.id}>
                    <td class="nowrap">{clock(r.at_us)}</td><td>{r.actor}</td><td>{words(r.action)}</td><td class="mono">{r.subject}</td>
                    <td class="long">{Object.entries(r.detail).map(([k, v]) => `${words(k)}: ${value(v)}`).join(", ") || "–"}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
        {data && data.audit.length >= 100 && <button onClick={() => setBefore(data.audit.at(-1)!.id)}>Older</button>}
        {before && <button onClick={() => setBefore(null)}>Newest</button>}
      </Card>
    </>
  );
}

type Live = {
  at_us: number;
  routing: { version: number; made_us: number; cause: string; body: { endpoints: Record<string, { stable: string | null; candidate: string | null; share: number }> } } | null;
  levels: Record<string, { to_level: string; author: string; cause: string } | null>;
};

/** The levels of an endpoint's segments, as the end of a sentence. */
function segmentsOf(live: Live, name: string): string {
  const own = Object.entries(live.levels).filter(([place]) => place.startsWith(`${name}/`));
  return own.map(([place, level]) => `, ${place.slice(name.length + 1)} ${words(level?.to_level ?? "")}`).join("");
}

function LiveAt() {
  const [at, setAt] = useState("");
  const [live, setLive] = useState<Live | null>(null);
  const look = async (event: Event) => {
    event.preventDefault();
    await attempt(async () => setLive(await get<Live>(`/api/history?at=${encodeURIComponent(new Date(at).toISOString())}`)), "Looked it up.");
  };
  return (
    <Card title="What was live at a time" wide>
      <form class="row" onSubmit={look}>
        <label class="inline" for="at">Time</label>
        <input id="at" type="datetime-local" step="1" required value={at} onInput={(e) => setAt(e.currentTarget.value)} />
        <button type="submit">Look up</button>
      </form>
      {live && !live.routing && <Empty title="Nothing was live then" />}
      {live?.routing && (
        <ul class="plain-list">
          {Object.entries(live.routing.body.endpoints).map(([name, e]) => (
            <li key={name}><b>{name}</b>: {e.stable ? short(e.stable) : "people only"}{e.candidate && `, ${short(e.candidate)} at ${Math.round(e.share * 100)} %`} · level {words(live.levels[name]?.to_level ?? "as in the project file")}{segmentsOf(live, name)} <span class="quiet">table {live.routing!.version}, since {clock(live.routing!.made_us)}: {live.routing!.cause}</span></li>
          ))}
        </ul>
      )}
    </Card>
  );
}
