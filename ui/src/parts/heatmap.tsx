// How far each metric is from its reference over time; a canvas, with the same facts as a table for screen readers.

import { useEffect, useRef } from "preact/hooks";
import { clock, percent, words } from "../format";
import type { Heat } from "../types";
import { Empty } from "./empty";

const ROW = 22;

export function Heatmap({ heat }: { heat: Heat }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const element = canvas.current;
    if (!element) return;
    const draw = () => paint(element, heat);
    const observer = new ResizeObserver(draw);
    observer.observe(element.parentElement!);
    window.addEventListener("themechange", draw);
    draw();
    return () => {
      observer.disconnect();
      window.removeEventListener("themechange", draw);
    };
  }, [heat]);
  if (!heat.rows.length) {
    return <Empty title="There is no reference yet">The heatmap starts when tenure has learned what is usual for this endpoint.</Empty>;
  }
  const last = heat.t_us.length - 1;
  return (
    <div class="heat">
      <ul class="heat-names" aria-hidden="true">
        {heat.rows.map((row) => <li key={row.stage + row.metric} title={`${row.stage} · ${row.metric}`}>{row.title}</li>)}
      </ul>
      <div class="heat-box"><canvas ref={canvas} aria-hidden="true" /></div>
      <p class="heat-legend quiet"><span>like the reference</span><i aria-hidden="true" /><span>unlike</span><span class="heat-time">{clock(heat.t_us[0])} – {clock(heat.t_us[last])}</span></p>
      <table class="hidden-table">
        <caption>Distance from the reference, newest</caption>
        <thead><tr><th scope="col">Metric</th><th scope="col">Distance</th></tr></thead>
        <tbody>{heat.rows.map((row) => <tr key={row.stage + row.metric}><th scope="row">{row.stage} {words(row.metric)}</th><td>{percent(row.distance.findLast((d) => d != null))}</td></tr>)}</tbody>
      </table>
    </div>
  );
}

function paint(canvas: HTMLCanvasElement, heat: Heat) {
  const width = canvas.parentElement!.clientWidth;
  const height = heat.rows.length * ROW;
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const ctx = canvas.getContext("2d")!;
  ctx.scale(scale, scale);
  const style = getComputedStyle(canvas);
  const [cold, hot] = [style.getPropertyValue("--heat-0").trim(), style.getPropertyValue("--heat-1").trim()];
  const step = width / Math.max(1, heat.t_us.length);
  heat.rows.forEach((row, y) => {
    row.distance.forEach((d, x) => {
      if (d == null) return;
      ctx.globalAlpha = 1;
      ctx.fillStyle = cold;
      ctx.fillRect(x * step, y * ROW + 1, Math.ceil(step), ROW - 2);
      ctx.globalAlpha = ink(d);
      ctx.fillStyle = hot;
      ctx.fillRect(x * step, y * ROW + 1, Math.ceil(step), ROW - 2);
    });
  });
}

/** Ink of a distance: nothing below the noise of one pane, full at one half. */
export function ink(distance: number): number {
  return Math.min(1, Math.max(0, (distance - 0.05) / 0.45));
}
