// Geometry of boxes, in pixels of the image. Pure.

import type { Box } from "../types";

export type Size = { width: number; height: number };
export type Handle = "nw" | "ne" | "sw" | "se";
export const HANDLES: readonly Handle[] = ["nw", "ne", "sw", "se"];
export const LEAST = 4;

/** A box with its corners in order, inside the image. */
export function normal(box: Box, size: Size): Box {
  const x = [clamp(box.x1, 0, size.width), clamp(box.x2, 0, size.width)].sort((a, b) => a - b);
  const y = [clamp(box.y1, 0, size.height), clamp(box.y2, 0, size.height)].sort((a, b) => a - b);
  return { ...box, x1: round(x[0]!), x2: round(x[1]!), y1: round(y[0]!), y2: round(y[1]!) };
}

/** Move without changing the size; it stops at the edge. */
export function moved(box: Box, dx: number, dy: number, size: Size): Box {
  const w = box.x2 - box.x1;
  const h = box.y2 - box.y1;
  const x1 = round(clamp(box.x1 + dx, 0, size.width - w));
  const y1 = round(clamp(box.y1 + dy, 0, size.height - h));
  return { ...box, x1, y1, x2: x1 + w, y2: y1 + h };
}

/** Drag one corner; the box may turn inside out and is put in order. */
export function resized(box: Box, handle: Handle, dx: number, dy: number, size: Size): Box {
  return normal(
    {
      ...box,
      x1: handle.endsWith("w") ? box.x1 + dx : box.x1,
      x2: handle.endsWith("e") ? box.x2 + dx : box.x2,
      y1: handle.startsWith("n") ? box.y1 + dy : box.y1,
      y2: handle.startsWith("s") ? box.y2 + dy : box.y2,
    },
    size,
  );
}

/** Large enough to be meant. */
export function meant(box: Box): boolean {
  return box.x2 - box.x1 >= LEAST && box.y2 - box.y1 >= LEAST;
}

/** A box in the middle of what is seen, for the keyboard. */
export function central(size: Size, label: string): Box {
  const [w, h] = [size.width / 5, size.height / 5];
  const [x, y] = [(size.width - w) / 2, (size.height - h) / 2];
  return normal({ x1: x, y1: y, x2: x + w, y2: y + h, label }, size);
}

export type View = { scale: number; x: number; y: number };

/** The whole image in the middle of the frame. */
export function fitted(image: Size, frame: Size): View {
  const scale = Math.min(frame.width / image.width, frame.height / image.height) || 1;
  return { scale, x: (frame.width - image.width * scale) / 2, y: (frame.height - image.height * scale) / 2 };
}

/** Zoom so that the point (x, y) of the frame stays where it is. */
export function zoomed(view: View, factor: number, x: number, y: number): View {
  const scale = clamp(view.scale * factor, 0.05, 40);
  const real = scale / view.scale;
  return { scale, x: x - (x - view.x) * real, y: y - (y - view.y) * real };
}

function clamp(v: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, v));
}

function round(v: number): number {
  return Math.round(v * 10) / 10;
}
