// A small line chart over time (uPlot), sized by its container, with thresholds and event markers.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { number, percent } from "../format";

export type Line = { name: string; t_us: number[]; values: (number | null)[] };
export type Marker = { at_us: number; kind: "event" | "alarm"; text: string };
type Props = { title: string; unit?: string; lines: Line[]; limits?: number[]; markers?: Marker[]; height?: number; from_us?: number; to_us?: number };

const HUES = ["--line-1", "--line-2", "--line-3", "--line-4"];

const shown = (unit: string | undefined, v: number | null) => (unit === "share" ? percent(v) : number(v));

export function Chart({ title, unit, lines, limits = [], markers = [], height = 132, from_us, to_us }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const facts = useRef({ limits, markers });
  facts.current = { limits, markers };
  const shape = lines.map((l) => l.name).join("|");
  const data = align(lines);
  const window_ = useRef({ from_us, to_us });
  window_.current = { from_us, to_us };

  useEffect(() => {
    const element = box.current!;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(element, { lines, unit, height }, facts, window_), data, element);
    };
    draw();
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    window.addEventListener("themechange", draw);
    return () => {
      observer.disconnect();
      window.removeEventListener("themechange", draw);
      plot.current?.destroy();
    };
  }, [shape, height]);

  useEffect(() => plot.current?.setData(data), [JSON.stringify(data), JSON.stringify(facts.current), from_us, to_us]);

  const last = lines.map((l) => `${l.name ? `${l.name} ` : ""}${shown(unit, lastOf(l.values))}${unit && unit !== "share" ? ` ${unit}` : ""}`).join(", ");
  const marks = markers.map((m) => m.text).join("; ");
  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="chart-now">
          {lines.map((l, i) => (
            <span key={l.name}><i class={`key key-${(i % HUES.length) + 1}`} aria-hidden="true" />{l.name && `${l.name} `}<b>{shown(unit, lastOf(l.values))}</b></span>
          ))}
          {unit && unit !== "share" && <span class="quiet">{unit}</span>}
        </span>
      </figcaption>
      <div ref={box} class="chart-box" role="img"
        aria-label={`${title}: now ${last}${limits.length ? `; threshold ${limits.map(number).join(", ")}` : ""}${marks ? `; ${marks}` : ""}`} />
    </figure>
  );
}

/** Put lines with different times on one time axis. */
export function align(lines: Line[]): uPlot.AlignedData {
  const times = [...new Set(lines.flatMap((l) => l.t_us))].sort((a, b) => a - b);
  const rows = lines.map((line) => {
    const at = new Map(line.t_us.map((t, i) => [t, line.values[i] ?? null]));
    return times.map((t) => (at.has(t) ? at.get(t)! : null));
  });
  return [times.map((t) => t / 1e6), ...rows] as uPlot.AlignedData;
}

function lastOf(values: (number | null)[]): number | null {
  return values.findLast((v) => v != null) ?? null;
}

type Ref<T> = { current: T };

function options(
  element: HTMLElement, { lines, unit, height }: { lines: Line[]; unit: string | undefined; height: number }, facts: Ref<{ limits: number[]; markers: Marker[] }>,
  frame: Ref<{ from_us: number | undefined; to_us: number | undefined }>,
): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--mute"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return {
    width: element.clientWidth || 300,
    height,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 10, 0, 0],
    scales: {
      x: { range: (_u, low, high) => [frame.current.from_us ? frame.current.from_us / 1e6 : low, frame.current.to_us ? frame.current.to_us / 1e6 : high] },
      y: { range: (_u, low, high) => yRange(low, high, facts.current.limits) },
    },
    axes: [
      { ...axis, size: 22, space: 70, values: (_u, ticks) => ticks.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB").slice(0, ticks.length > 1 && ticks[1]! - ticks[0]! < 60 ? 8 : 5)) },
      { ...axis, size: 48, space: 30, values: (_u, ticks) => ticks.map((v) => shown(unit, v)) },
    ],
    series: [{}, ...lines.map((_l, i) => ({ stroke: colour(HUES[i % HUES.length]!), width: 1.6, dash: i ? [5, 3] : [], points: { show: false }, spanGaps: false }))],
    hooks: { draw: [(u) => overlay(u, facts.current, { limit: colour("--bad"), event: colour("--info"), alarm: colour("--bad") })] },
  };
}

export function yRange(low: number | null, high: number | null, limits: number[]): [number, number] {
  const values = [low, high, ...limits].filter((v): v is number => v != null && Number.isFinite(v));
  if (!values.length) return [0, 1];
  const [a, b] = [Math.min(...values), Math.max(...values)];
  const pad = (b - a || Math.abs(b) || 1) * 0.12;
  return [a >= 0 && a - pad < 0 ? 0 : a - pad, b + pad];
}

function overlay(u: uPlot, facts: { limits: number[]; markers: Marker[] }, colours: { limit: string; event: string; alarm: string }) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([6, 4]);
  ctx.strokeStyle = colours.limit;
  for (const limit of facts.limits) stroke(ctx, bbox.left, u.valToPos(limit, "y", true), bbox.left + bbox.width, u.valToPos(limit, "y", true));
  for (const marker of facts.markers) {
    const x = u.valToPos(marker.at_us / 1e6, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.setLineDash(marker.kind === "event" ? [2, 3] : []);
    ctx.strokeStyle = ctx.fillStyle = colours[marker.kind];
    stroke(ctx, x, bbox.top, x, bbox.top + bbox.height);
    flag(ctx, x, bbox.top, marker.kind);
  }
  ctx.restore();
}

function flag(ctx: CanvasRenderingContext2D, x: number, y: number, kind: string) {
  const size = 5 * devicePixelRatio;
  ctx.beginPath();
  if (kind === "event") ctx.arc(x, y, size * 0.8, 0, 7);
  else ctx.moveTo(x - size, y - size), ctx.lineTo(x + size, y - size), ctx.lineTo(x, y + size * 0.7);
  ctx.fill();
}

function stroke(ctx: CanvasRenderingContext2D, x1: number, y1: number, x2: number, y2: number) {
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
}
