import { useEffect, useRef } from "preact/hooks";

const KEYS: readonly (readonly [string, string])[] = [
  ["1 – 9", "choose a label"],
  ["Enter", "submit"],
  ["A", "accept what the model suggests, and submit"],
  ["R", "reject it: drop its boxes, choose the other label"],
  ["S", "skip, with a reason"],
  ["U", "undo your last judgement"],
  ["N", "new box in the middle"],
  ["[ and ]", "previous and next box"],
  ["Arrows", "move the selected box, else pan"],
  ["Shift + arrows", "make the selected box larger or smaller"],
  ["Delete", "delete the selected box"],
  ["Escape", "select nothing"],
  ["+  −  0", "zoom in, out, fit"],
  ["B / Shift + B", "brighter, darker"],
  ["C / Shift + C", "more, less contrast"],
  ["H", "hide or show the boxes"],
  ["?", "this help"],
];

export function Help({ open, close }: { open: boolean; close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog ref={dialog} aria-labelledby="help-title" onClose={close}>
      <h2 id="help-title">Keys</h2>
      <dl class="keys">{KEYS.map(([k, what]) => <div key={k}><dt><kbd>{k}</kbd></dt><dd>{what}</dd></div>)}</dl>
      <p class="quiet">With the mouse: drag to draw, drag a box or its corners to change it, wheel to zoom, Shift + drag to pan.</p>
      <div class="row end"><button class="primary" onClick={close}>Close</button></div>
    </dialog>
  );
}
