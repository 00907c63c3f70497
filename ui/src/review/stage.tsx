// The image with its boxes: zoom, pan, pinch, light, draw, move, resize. The pointer's half; keys are in pages/review.

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Box, ReviewItem } from "../types";
import { Beside } from "./beside";
import { fitted, meant, moved, normal, resized, zoomed, type Handle, type Size, type View } from "./boxes";
import { Mark } from "./mark";

const CROWD = 60; // more boxes than this: only the selected one and the one under the pointer carry their names

export type Light = { brightness: number; contrast: number; gamma: number };
export type Command = { zoom(factor: number): void; pan(dx: number, dy: number): void; fit(): void; size(): Size };
type Drag = { kind: "pan" | "draw" | "move" | Handle; index: number; x: number; y: number; start: Box | null; drawn: Box | null };
type Props = {
  item: ReviewItem; src: string; boxes: Box[]; selected: number; hidden: boolean; light: Light; draws: boolean; label: string; beside: boolean;
  command: RefObject<Command | null>; onBox: (index: number, box: Box) => void; onDrawn: (box: Box) => void; onSelect: (index: number) => void;
};

export function Stage(props: Props) {
  const { item, src, boxes, selected, hidden, light, draws, label, beside, command, onBox, onDrawn, onSelect } = props;
  const frame = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState<Size>({ width: 0, height: 0 });
  const [view, setView] = useState<View>({ scale: 1, x: 0, y: 0 });
  const [draft, setDraft] = useState<Box | null>(null);
  const [failed, setFailed] = useState(false);
  const drag = useRef<Drag | null>(null);
  const fingers = useRef(new Map<number, { x: number; y: number }>());
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

  const inFrame = (e: MouseEvent) => {
    const edge = frame.current!.getBoundingClientRect();
    return { x: e.clientX - edge.left, y: e.clientY - edge.top };
  };
  const at = (e: PointerEvent) => {
    const p = inFrame(e);
    return { x: (p.x - view.x) / view.scale, y: (p.y - view.y) / view.scale };
  };
  const down = (e: PointerEvent) => {
    frame.current!.setPointerCapture(e.pointerId);
    fingers.current.set(e.pointerId, inFrame(e));
    if (fingers.current.size > 1) return stop(); // two fingers zoom, they do not draw
    const target = e.target as Element;
    const mark = target.closest<SVGGElement>("[data-box]");
    const index = mark ? Number(mark.dataset.box) : -1;
    const kind = (target as SVGElement).dataset.handle as Handle | undefined;
    onSelect(index);
    drag.current = { kind: e.button === 1 || e.shiftKey ? "pan" : (kind ?? (mark ? "move" : draws ? "draw" : "pan")), index, ...at(e), start: boxes[index] ?? null, drawn: null };
  };
  const move = (e: PointerEvent) => {
    if (fingers.current.size > 1) return pinch(e);
    const d = drag.current;
    if (!d) return;
    const point = at(e);
    const [dx, dy] = [point.x - d.x, point.y - d.y];
    if (d.kind === "pan") setView((v) => ({ ...v, x: v.x + dx * v.scale, y: v.y + dy * v.scale }));
    else if (d.kind === "draw") setDraft((d.drawn = normal({ x1: d.x, y1: d.y, x2: point.x, y2: point.y, label }, size)));
    else if (d.start) onBox(d.index, d.kind === "move" ? moved(d.start, dx, dy, size) : resized(d.start, d.kind, dx, dy, size));
  };
  const pinch = (e: PointerEvent) => {
    const before = fingers.current.get(e.pointerId);
    const other = [...fingers.current].find(([id]) => id !== e.pointerId)?.[1];
    if (!before || !other) return;
    const now = inFrame(e);
    fingers.current.set(e.pointerId, now);
    const apart = (p: { x: number; y: number }) => Math.max(1, Math.hypot(p.x - other.x, p.y - other.y));
    setView((v) => {
      const moved = { ...v, x: v.x + (now.x - before.x) / 2, y: v.y + (now.y - before.y) / 2 };
      return zoomed(moved, apart(now) / apart(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    });
  };
  const stop = () => {
    setDraft(null);
    drag.current = null;
  };
  const up = (e: PointerEvent) => {
    fingers.current.delete(e.pointerId);
    const drawn = drag.current?.drawn; // not the state: it may be a move behind
    stop();
    if (drawn && meant(drawn)) onDrawn(drawn);
  };
  const wheel = (e: WheelEvent) => {
    e.preventDefault();
    const { x, y } = inFrame(e);
    setView((v) => zoomed(v, Math.exp(-e.deltaY / 400), x, y));
  };
  const filter = `url(#review-gamma) brightness(${light.brightness}) contrast(${light.contrast})`;
  return (
    <div class={beside ? "stages two" : "stages"}>
      <Gamma exponent={1 / light.gamma} />
      <div ref={frame} class={`stage ${draws ? "draws" : ""}`} onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerCancel={up} onWheel={wheel}>
        {failed && <p class="notice bad">This image cannot be shown by the browser; skip it with a reason.</p>}
        <div class="stage-plane" style={{ transform: `translate(${view.x}px, ${view.y}px) scale(${view.scale})` }}>
          <img src={src} alt="The photo to judge" draggable={false} style={{ filter }}
            onLoad={(e) => setSize({ width: e.currentTarget.naturalWidth, height: e.currentTarget.naturalHeight })} onError={() => setFailed(true)} />
          {size.width > 0 && !hidden && (
            <svg class={boxes.length > CROWD ? "crowd" : ""} width={size.width} height={size.height} viewBox={`0 0 ${size.width} ${size.height}`} aria-hidden="true" style={{ "--unit": 1 / view.scale }}>
              {boxes.map((box, i) => <Mark key={i} box={box} index={i} selected={i === selected} />)}
              {draft && <Mark box={draft} index={boxes.length} selected={false} />}
            </svg>
          )}
        </div>
      </div>
      {beside && <Beside item={item} view={view} filter={filter} />}
    </div>
  );
}

/** Browsers have no gamma among their plain filters. */
function Gamma({ exponent }: { exponent: number }) {
  return (
    <svg width="0" height="0" class="sr" aria-hidden="true">
      <filter id="review-gamma" color-interpolation-filters="sRGB">
        <feComponentTransfer>
          <feFuncR type="gamma" exponent={exponent} /><feFuncG type="gamma" exponent={exponent} /><feFuncB type="gamma" exponent={exponent} />
        </feComponentTransfer>
      </filter>
    </svg>
  );
}
