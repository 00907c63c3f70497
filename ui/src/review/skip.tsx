import { useEffect, useRef, useState } from "preact/hooks";

const REASONS = ["cannot be seen well enough", "not sure", "the input is broken", "not a case for this question"];

export function Skip({ open, close, skip, escalate }: { open: boolean; close: () => void; skip: (reason: string) => void; escalate: (reason: string) => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [other, setOther] = useState("");
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  const choose = (reason: string) => {
    close();
    setOther("");
    skip(reason);
  };
  return (
    <dialog ref={dialog} aria-labelledby="skip-title" onClose={close}
      onKeyDown={(e) => { const reason = REASONS[Number(e.key) - 1]; if (reason && !(e.target instanceof HTMLInputElement)) { e.preventDefault(); choose(reason); } }}>
      <h2 id="skip-title">Skip or escalate: why?</h2>
      <p class="quiet">What you skip goes to somebody else. What you escalate goes to an adjudicator, whose word decides.</p>
      <div class="stack">{REASONS.map((reason, i) => <button key={reason} onClick={() => choose(reason)}><kbd>{i + 1}</kbd> {reason}</button>)}</div>
      <form class="stack" onSubmit={(e) => { e.preventDefault(); choose(other); }}>
        <label>Another reason<input type="text" required maxLength={200} value={other} onInput={(e) => setOther(e.currentTarget.value)} /></label>
        <div class="row end">
          <button type="button" onClick={close}>Cancel</button>
          <button type="button" disabled={!other.trim()} onClick={() => { close(); setOther(""); escalate(other.trim()); }}>Escalate</button>
          <button type="submit" disabled={!other.trim()}>Skip</button>
        </div>
      </form>
    </dialog>
  );
}
