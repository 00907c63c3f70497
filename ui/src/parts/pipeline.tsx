// The way of a request through the endpoint, as a picture.

import { number, short } from "../format";
import type { Endpoint, Series } from "../types";

const W = 132;
const H = 54;
const GAP = 34;

export function Pipeline({ endpoint, series }: { endpoint: Endpoint; series: Series[] }) {
  const nodes = [
    { name: endpoint.input, sub: "input" },
    ...endpoint.pipeline.map((s) => ({ name: s.stage, sub: timeOf(series, s.stage) ?? s.placement })),
    { name: "decide", sub: endpoint.level.replaceAll("_", " ") },
    { name: endpoint.level === "human_only" || endpoint.level === "shadow" ? "people" : "answer", sub: short(endpoint.routing?.stable) },
  ];
  const width = nodes.length * W + (nodes.length - 1) * GAP;
  const text = nodes.map((n) => `${n.name} (${n.sub})`).join(", then ");
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Picture of the pipeline">
      <svg class="pipeline" width={width + 2} height={H + 2} viewBox={`-1 -1 ${width + 2} ${H + 2}`} role="img" aria-label={`Pipeline: ${text}`}>
        {nodes.map((node, i) => (
          <g key={i} transform={`translate(${i * (W + GAP)} 0)`}>
            {i > 0 && <path class="edge" d={`M${-GAP} ${H / 2}H-7m0 0l-5-4m5 4l-5 4`} />}
            <rect width={W} height={H} rx="8" />
            <text x={W / 2} y="23">{node.name}</text>
            <text class="minor" x={W / 2} y="41">{node.sub}</text>
          </g>
        ))}
      </svg>
    </div>
  );
}

function timeOf(series: Series[], stage: string): string | null {
  const found = series.find((s) => s.metric === `stage_us:${stage}` || (s.stage === stage && s.metric.startsWith("latency")));
  const last = found?.mean.findLast((m) => m != null);
  if (last == null || !found) return null;
  return found.metric.includes("us") ? `${number(last / 1000)} ms` : `${number(last)} ${found.metric.endsWith("_ms") ? "ms" : ""}`;
}
