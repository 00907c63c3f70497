// The image with its boxes: zoom, pan, light, draw, move, resize. The pointer's half; keys are in pages/review.

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Box } from "../types";
import { fitted, HANDLES, meant, moved, normal, resized, zoomed, type Handle, type Size, type View } from "./boxes";

export type Light = { brightness: number; contrast: number; gamma: number };
export type Command = { zoom(factor: number): void; pan(dx: number, dy: number): void; fit(): void; size(): Size };
type Drag = { kind: "pan" | "draw" | "move" | Handle; x: number; y: number; start: Box | null; drawn: Box | null };
type Props = {
  src: string; boxes: Box[]; selected: number; hidden: boolean; light: Light; draws: boolean; label: string;
  command: RefObject<Command | null>; onBoxes: (boxes: Box[]) => void; onSelect: (index: number) => void;
};

export function Stage(props: Props) {
  const { src, boxes, selected, hidden, light, draws, label, command, onBoxes, onSelect } = props;
  const frame = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  const [view, setView] = useState<View>({ scale: 1, x: 0, y: 0 });
  const [draft, setDraft] = useState<Box | null>(null);
  const [failed, setFailed] = useState(false);
  const drag = useRef<Drag | null>(null);
  const frameSize = () => ({ width: frame.current?.clientWidth ?? 1, height: frame.current?.clientHeight ?? 1 });
  const fit = () => size.width && setView(fitted(size, frameSize()));

  useEffect(() => void fit(), [size.width, size.height, src]);
  useEffect(() => setFailed(false), [src]);
  useEffect(() => {
    const observer = new ResizeObserver(() => void fit());
    observer.observe(frame.current!);
    return () => observer.disconnect();
  }, [size.width, size.height]);
  command.current = {
    zoom: (factor) => setView((v) => zoomed(v, factor, frameSize().width / 2, frameSize().height / 2)),
    pan: (dx, dy) => setView((v) => ({ ...v, x: v.x + dx, y: v.y + dy })),
    fit: () => void fit(),
    size: () => size,
  };

  const at = (e: PointerEvent) => {
    const edge = frame.current!.getBoundingClientRect();
    return { x: (e.clientX - edge.left - view.x) / view.scale, y: (e.clientY - edge.top - view.y) / view.scale };
  };
  const down = (e: PointerEvent, kind: Drag["kind"], index: number) => {
    e.stopPropagation();
    frame.current!.setPointerCapture(e.pointerId);
    onSelect(index);
    const point = at(e);
    drag.current = { kind: e.button === 1 || e.shiftKey ? "pan" : kind, ...point, start: boxes[index] ?? null, drawn: null };
  };
  const move = (e: PointerEvent) => {
    const d = drag.current;
    if (!d) return;
    const point = at(e);
    const [dx, dy] = [point.x - d.x, point.y - d.y];
    if (d.kind === "pan") setView((v) => ({ ...v, x: v.x + dx * v.scale, y: v.y + dy * v.scale }));
    else if (d.kind === "draw") setDraft((d.drawn = normal({ x1: d.x, y1: d.y, x2: point.x, y2: point.y, label }, size)));
    else if (d.start) change(d.kind === "move" ? moved(d.start, dx, dy, size) : resized(d.start, d.kind, dx, dy, size));
  };
  const change = (box: Box) => onBoxes(boxes.map((b, i) => (i === selected ? box : b)));
  const up = () => {
    const drawn = drag.current?.drawn; // not the state: it may be a move behind
    if (drawn && meant(drawn)) {
      onBoxes([...boxes, drawn]);
      onSelect(boxes.length);
    }
    setDraft(null);
    drag.current = null;
  };
  const wheel = (e: WheelEvent) => {
    e.preventDefault();
    const edge = frame.current!.getBoundingClientRect();
    setView((v) => zoomed(v, Math.exp(-e.deltaY / 400), e.clientX - edge.left, e.clientY - edge.top));
  };
  const unit = 1 / view.scale;
  return (
    <div ref={frame} class={`stage ${draws ? "draws" : ""}`} onPointerDown={(e) => down(e, draws ? "draw" : "pan", -1)} onPointerMove={move} onPointerUp={up} onPointerCancel={up} onWheel={wheel}>
      {failed && <p class="notice bad">This image cannot be shown by the browser; skip it with a reason.</p>}
      <div class="stage-plane" style={{ transform: `translate(${view.x}px, ${view.y}px) scale(${view.scale})` }}>
        <img src={src} alt="The photo to judge" draggable={false} style={{ filter: `brightness(${light.brightness}) contrast(${light.contrast})` }}
          onLoad={(e) => setSize({ width: e.currentTarget.naturalWidth, height: e.currentTarget.naturalHeight })} onError={() => setFailed(true)} />
        {size.width > 0 && !hidden && (
          <svg width={size.width} height={size.height} viewBox={`0 0 ${size.width} ${size.height}`} aria-hidden="true">
            {[...boxes, ...(draft ? [draft] : [])].map((box, i) => (
              <g key={i} class={i === selected ? "box selected" : "box"} data-box={i}>
                <rect class="halo" x={box.x1} y={box.y1} width={box.x2 - box.x1} height={box.y2 - box.y1} stroke-width={4 * unit} />
                <rect x={box.x1} y={box.y1} width={box.x2 - box.x1} height={box.y2 - box.y1} stroke-width={2 * unit} onPointerDown={(e) => down(e, "move", i)} />
                <text x={box.x1 + 2 * unit} y={box.y1 - 5 * unit} font-size={13 * unit} stroke-width={3 * unit}>{i + 1} {box.label}</text>
                {i === selected && HANDLES.map((h) => (
                  <rect key={h} class={`handle ${h}`} width={12 * unit} height={12 * unit} stroke-width={unit}
                    x={(h.endsWith("w") ? box.x1 : box.x2) - 6 * unit} y={(h.startsWith("n") ? box.y1 : box.y2) - 6 * unit} onPointerDown={(e) => down(e, h, i)} />
                ))}
              </g>
            ))}
          </svg>
        )}
      </div>
    </div>
  );
}
