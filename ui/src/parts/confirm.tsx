// A command that asks first, with an optional reason; the native dialog keeps the focus inside.

import { useRef, useState } from "preact/hooks";

type Props = {
  label: string; title: string; text: string; danger?: boolean; primary?: boolean; disabled?: boolean; reason?: boolean;
  onConfirm: (reason: string) => Promise<unknown>;
};

export function Confirm({ label, title, text, danger, primary, disabled, reason = true, onConfirm }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [why, setWhy] = useState("");
  const [busy, setBusy] = useState(false);
  const id = `confirm-${title.replace(/\W+/g, "-")}`;
  const confirm = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    await onConfirm(why);
    setBusy(false);
    setWhy("");
    dialog.current?.close();
  };
  return (
    <>
      <button class={danger ? "danger" : primary ? "primary" : ""} disabled={disabled} onClick={() => dialog.current?.showModal()}>{label}</button>
      <dialog ref={dialog} aria-labelledby={id}>
        <form onSubmit={confirm}>
          <h2 id={id}>{title}</h2>
          <p>{text}</p>
          {reason && (
            <label>Reason (kept in the audit trail)
              <input type="text" maxLength={500} value={why} onInput={(e) => setWhy(e.currentTarget.value)} />
            </label>
          )}
          <div class="row end">
            <button type="button" onClick={() => dialog.current?.close()}>Cancel</button>
            <button type="submit" class={danger ? "danger" : "primary"} disabled={busy}>{label}</button>
          </div>
        </form>
      </dialog>
    </>
  );
}
