// Risk–coverage curve: the more the model decides, the more of its decisions are wrong. SVG, one point per threshold.

import { number, percent } from "../format";
import type { Lineage } from "../types";

const W = 420;
const H = 210;
const PAD = { left: 46, right: 26, top: 12, bottom: 36 };

export function Curve({ lineage, threshold }: { lineage: Lineage; threshold?: number }) {
  const points = lineage.curve.filter((p) => p.n > 0).map((p) => ({ ...p, risk: p.k / p.n })).sort((a, b) => a.share - b.share);
  const top = Math.max(lineage.bound * 2, ...points.map((p) => Math.min(p.upper, 4 * lineage.bound)));
  const x = (coverage: number) => PAD.left + coverage * (W - PAD.left - PAD.right);
  const y = (risk: number) => PAD.top + (1 - Math.min(risk, top) / top) * (H - PAD.top - PAD.bottom);
  const path = points.map((p, i) => `${i ? "L" : "M"}${x(p.share).toFixed(1)} ${y(p.risk).toFixed(1)}`).join("");
  const upper = points.map((p, i) => `${i ? "L" : "M"}${x(p.share).toFixed(1)} ${y(p.upper).toFixed(1)}`).join("");
  const chosen = points.find((p) => p.threshold === threshold);
  return (
    <figure class="curve">
      <svg viewBox={`0 0 ${W} ${H}`} role="img" aria-label={`Risk–coverage curve of ${lineage.side}: ${points.map((p) => `${percent(p.share, 0)} automated, ${percent(p.risk)} wrong`).join("; ")}. Bound ${percent(lineage.bound)}.`}>
        {[0, 0.5, 1].map((share) => (
          <g key={share}>
            <line class="grid" x1={PAD.left} x2={W - PAD.right} y1={y(top * share)} y2={y(top * share)} />
            <text class="minor" x={PAD.left - 6} y={y(top * share) + 4} text-anchor="end">{percent(top * share)}</text>
          </g>
        ))}
        {[0, 0.25, 0.5, 0.75, 1].map((share) => <text key={share} class="minor" x={x(share)} y={H - PAD.bottom + 16} text-anchor="middle">{percent(share, 0)}</text>)}
        <text class="minor" x={(W + PAD.left) / 2} y={H - 4} text-anchor="middle">share that the model decides</text>
        <line class="limit" x1={PAD.left} x2={W - PAD.right} y1={y(lineage.bound)} y2={y(lineage.bound)} />
        <text class="limit-text" x={PAD.left + 6} y={y(lineage.bound) - 5}>bound {percent(lineage.bound)}</text>
        <path class="upper" d={upper} />
        <path class="risk" d={path} />
        {points.map((p) => <circle key={p.threshold} class={p.valid ? "valid" : ""} cx={x(p.share)} cy={y(p.risk)} r="3.5"><title>{`threshold ${number(p.threshold)}: ${p.k} wrong of ${p.n}`}</title></circle>)}
        {chosen && <circle class="chosen" cx={x(chosen.share)} cy={y(chosen.risk)} r="7" />}
      </svg>
      <figcaption class="quiet">Errors among the answers at or above each threshold (filled: certified); dashed: upper bound of each at 95 %{chosen ? "; ringed: the threshold in force" : ""}.</figcaption>
    </figure>
  );
}
