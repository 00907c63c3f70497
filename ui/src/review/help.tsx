import { useEffect, useRef } from "preact/hooks";

type Keys = readonly (readonly [string, string])[];
const ALWAYS: Keys = [
  ["1 – 9", "choose a label"],
  ["Enter", "submit"],
  ["A", "accept what the model suggests, and submit"],
  ["R", "reject it: drop its boxes, choose the other label"],
  ["E", "write the answer; Escape leaves the field"],
  ["S", "skip or escalate, with a reason"],
  ["U", "undo your last judgement"],
  ["?", "this help"],
];
const PHOTO: Keys = [
  ["N", "new box in the middle"],
  ["[ and ]", "previous and next box"],
  ["Arrows", "move the selected box, else pan"],
  ["Shift + arrows", "make the selected box larger or smaller"],
  ["T / Shift + T", "next, previous class of the selected box"],
  ["Delete", "delete the selected box"],
  ["Escape", "select nothing"],
  ["+  −  0", "zoom in, out, fit"],
  ["B / Shift + B", "brighter, darker"],
  ["C / Shift + C", "more, less contrast"],
  ["G / Shift + G", "more, less gamma: lift or sink the shadows"],
  ["L", "the last good one beside it"],
  ["H", "hide or show the boxes"],
];
const SOUND: Keys = [
  ["Space", "play, pause"],
  ["← →", "back, on by half a second"],
  ["J / K", "previous, next word"],
  ["M", "mark one end of a loop, then the other"],
  ["O", "no loop"],
  [", and .", "slower, faster, at the same pitch"],
  ["X", "no speech"],
  ["Z", "unintelligible"],
];

const RECORD: Keys = [["O", "the fields that moved the answer most first, or as they stand"]];

export function Help({ open, close, media }: { open: boolean; close: () => void; media: string }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  const more: Keys = media.startsWith("image/") ? PHOTO : media.startsWith("audio/") ? SOUND : media === "application/json" ? RECORD : [];
  return (
    <dialog ref={dialog} aria-labelledby="help-title" onClose={close}>
      <h2 id="help-title">Keys</h2>
      <dl class="keys">{[...ALWAYS, ...more].map(([k, what]) => <div key={k}><dt><kbd>{k}</kbd></dt><dd>{what}</dd></div>)}</dl>
      {more === PHOTO && <p class="quiet">With the mouse: drag to draw, drag a box or its corners to change it, wheel to zoom, Shift + drag to pan. With two fingers: pinch to zoom.</p>}
      {more === SOUND && <p class="quiet">With the mouse: click the waveform to go there, drag on it to loop a part, click a word to hear it.</p>}
      <div class="row end"><button class="primary" onClick={close}>Close</button></div>
    </dialog>
  );
}
