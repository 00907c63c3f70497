import { useEffect, useRef, useState } from "preact/hooks";
import { useData } from "../live";
import { Empty, PageHead } from "../parts/empty";
import { say } from "../parts/toast";
import { href } from "../route";
import { central, moved, resized } from "../review/boxes";
import { added, boxLabel, classes, heard, judgement, missing, named, opened, placed, reclassified, rejected, without, type Draft } from "../review/desk";
import { dropDraft, flush, keep, kept } from "../review/drafts";
import { Fields } from "../review/fields";
import { Help } from "../review/help";
import { influence } from "../review/influence";
import { BoxList, Labels, Lights, Suggestion } from "../review/panel";
import { Skip } from "../review/skip";
import { Sound, type SoundCommand } from "../review/sound";
import { Stage, type Command, type Light } from "../review/stage";
import { Work } from "../review/work";
import { NO_SPEECH, UNINTELLIGIBLE, Written } from "../review/written";
import { judges, me } from "../session";
import type { ReviewItem } from "../types";

export function ReviewPage({ endpoint }: { endpoint: string }) {
  const [work] = useState(() => new Work(endpoint));
  useEffect(() => {
    if (!judges()) return;
    work.start();
    return () => work.stop();
  }, [work]);
  const counts = useData<{ open: number; conflict: number; pending: number }>(`/api/reviews/counts?endpoint=${encodeURIComponent(endpoint)}`, ["reviews"]);
  const item = work.items.value[0];
  const others = me.value!.endpoints.filter((name) => name !== endpoint);
  const sub = `${endpoint} · ${counts.data?.open ?? "–"} waiting · ${work.done.value} judged by you now`;
  const head = (
    <PageHead title="Review" sub={sub}>
      {work.waiting.value > 0 && <span class="badge warn" role="status">● {work.waiting.value} on the way</span>}
      {others.length > 0 && <span class="quiet">Other queues: {others.map((name, i) => <span key={name}>{i > 0 && ", "}<a href={href("review", name)}>{name}</a></span>)}</span>}
    </PageHead>
  );
  if (!judges()) return <>{head}<Empty title="Your role does not judge">Ask an operator for a reviewer's token.</Empty></>;
  if (work.fault.value && !item) return <>{head}<div class="notice bad" role="alert">{work.fault.value.message}</div></>;
  if (!item) return <>{head}{work.asked.value ? <Empty title="Nothing waits for you">New items appear here by themselves.<span class="row center empty-act"><button onClick={() => void work.undo()}>Undo your last judgement</button></span></Empty> : <p class="quiet" role="status">Loading …</p>}</>;
  return <>{head}<Item key={item.item + item.token} item={item} work={work} /></>;
}

function Item({ item, work }: { item: ReviewItem; work: Work }) {
  const [draft, setDraft, latest] = useDraft(item);
  const [light, setLight] = useState<Light>({ brightness: 1, contrast: 1, gamma: 1 });
  const [hidden, setHidden] = useState(false);
  const [dialog, setDialog] = useState<"" | "help" | "skip">("");
  const command = useRef<Command | null>(null);
  const sound = useRef<SoundCommand | null>(null);
  const answer = useRef<(HTMLTextAreaElement & HTMLInputElement) | null>(null);
  const src = work.media.value.get(item.item);
  const isImage = item.media_type.startsWith("image/");
  const isSound = item.media_type.startsWith("audio/");
  const writes = item.labels.length === 0;

  const submit = (d: Draft) => {
    const gap = missing(d);
    if (gap) return say(gap, true);
    dropDraft(item);
    work.submit(item, judgement(item, d));
  };
  const choose = (label: unknown) => {
    const next = { ...latest(), value: label };
    setDraft(next);
    if (!item.regions) submit(next);
  };
  const accept = () => (item.suggestion ? submit(opened(item)) : say("Nothing is suggested for this item: judge it yourself.", true));
  const nudge = (dx: number, dy: number, grow: boolean) => {
    const draft = latest();
    const box = draft.boxes[draft.selected];
    if (!box) return command.current?.pan(-dx * 12, -dy * 12);
    const size = command.current!.size();
    const next = grow ? resized(box, "se", dx * 2, dy * 2, size) : moved(box, dx * 2, dy * 2, size);
    setDraft(placed(draft, draft.selected, next));
  };
  const newBox = () => {
    const size = command.current?.size();
    const draft = latest();
    if (!size?.width || !item.regions) return;
    setDraft(added(draft, central(size, boxLabel(item, draft))));
  };
  const select = (selected: number) => setDraft({ ...latest(), selected });
  const cycle = (step: number) => {
    const draft = latest();
    const n = draft.boxes.length;
    if (n) setDraft({ ...draft, selected: (Math.max(draft.selected, step > 0 ? -1 : 0) + step + n) % n });
  };
  const sort = () => (work.byInfluence.value = !work.byInfluence.value);
  const lit = (key: keyof Light, step: number) => setLight((l) => ({ ...l, [key]: Math.min(4, Math.max(0.2, Number((l[key] + step).toFixed(2)))) }));

  const keys: Record<string, (shift: boolean) => void> = {
    Enter: () => submit(latest()), a: accept, r: () => setDraft(rejected(item, latest())), s: () => setDialog("skip"), u: () => void work.undo(),
    n: newBox, "[": () => cycle(-1), "]": () => cycle(1), Delete: () => setDraft(without(latest(), latest().selected)), Backspace: () => setDraft(without(latest(), latest().selected)),
    Escape: () => setDraft({ ...latest(), selected: -1 }), "+": () => command.current?.zoom(1.25), "=": () => command.current?.zoom(1.25), "-": () => command.current?.zoom(0.8),
    "0": () => command.current?.fit(), b: (shift) => lit("brightness", shift ? -0.2 : 0.2), c: (shift) => lit("contrast", shift ? -0.2 : 0.2),
    g: (shift) => lit("gamma", shift ? -0.2 : 0.2), t: (shift) => setDraft(reclassified(latest(), classes(item, latest()), shift ? -1 : 1)),
    l: () => (work.beside.value = isImage && !work.beside.value),
    h: () => setHidden((was) => !was), "?": () => setDialog("help"),
    ArrowLeft: (s) => nudge(-1, 0, s), ArrowRight: (s) => nudge(1, 0, s), ArrowUp: (s) => nudge(0, -1, s), ArrowDown: (s) => nudge(0, 1, s),
  };
  const write = (text: string) => setDraft({ ...latest(), value: text });
  if (influence(item)) keys.o = sort;
  if (writes) keys.e = () => answer.current?.focus();
  if (isSound) Object.assign(keys, soundKeys(sound));
  if (isSound && writes) Object.assign(keys, { x: () => write(NO_SPEECH), z: () => write(UNINTELLIGIBLE) });
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      work.touch();
      if (event.key === "Escape" && event.target === answer.current) return answer.current?.blur();
      if (dialog || event.ctrlKey || event.metaKey || event.altKey || typing(event)) return;
      const label = item.labels[Number(event.key) - 1];
      const act = label !== undefined ? () => choose(label) : keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!act) return;
      event.preventDefault();
      act(event.shiftKey);
    };
    const point = () => work.touch();
    window.addEventListener("keydown", press);
    window.addEventListener("pointermove", point);
    window.addEventListener("pagehide", flush);
    return () => {
      window.removeEventListener("keydown", press);
      window.removeEventListener("pointermove", point);
      window.removeEventListener("pagehide", flush);
    };
  });
  return (
    <div class="review">
      <div class="review-view">
        {isImage && src && <Stage item={item} src={src} boxes={draft.boxes} selected={draft.selected} hidden={hidden} light={light} draws={item.regions !== null} label={boxLabel(item, draft)}
          command={command} beside={work.beside.value} onSelect={select} onBox={(index, box) => setDraft(placed(latest(), index, box))} onDrawn={(box) => setDraft(added(latest(), box))} />}
        {isImage && src === undefined && <div class="stage"><p class="quiet pad" role="status">The photo is being fetched …</p></div>}
        {src === "" && <Fields item={{ ...item, record: null }} />}
        {isSound && src && <Sound src={src} outline={work.outlines.value.get(item.item) ?? null} words={heard(item)} command={sound} />}
        {isSound && src === undefined && <p class="quiet" role="status">The sound is being fetched …</p>}
        {!isImage && !isSound && <Fields item={item} sorted={work.byInfluence.value} sort={sort} />}
        {isImage && <Lights light={light} setLight={setLight} zoom={(f) => command.current?.zoom(f)} fit={() => command.current?.fit()} hidden={hidden} setHidden={setHidden} beside={work.beside.value} setBeside={(on) => (work.beside.value = on)} />}
      </div>
      <aside class="review-side" aria-label="Judgement">
        {item.adjudicate && <p class="notice warn">Readers differ on this item, or one left it to you. Your judgement settles it.</p>}
        <Suggestion item={item} />
        {writes ? <Written item={item} value={draft.value} write={write} field={answer} /> : <Labels item={item} draft={draft} choose={choose} />}
        {item.regions && <BoxList draft={draft} classes={classes(item, draft)} select={select} remove={(i) => setDraft(without(latest(), i))} name={(label) => setDraft(named(latest(), latest().selected, label))} add={newBox} />}
        <div class="stack">
          <button class="primary" onClick={() => submit(draft)}>Submit <kbd>Enter</kbd></button>
          {item.suggestion && <button onClick={accept}>Accept as suggested <kbd>A</kbd></button>}
          {item.suggestion && <button onClick={() => setDraft(rejected(item, draft))}>Reject <kbd>R</kbd></button>}
          <div class="row">
            <button onClick={() => setDialog("skip")}>Skip <kbd>S</kbd></button>
            <button onClick={() => void work.undo()}>Undo <kbd>U</kbd></button>
            <button onClick={() => setDialog("help")}>Help <kbd>?</kbd></button>
          </div>
        </div>
      </aside>
      <Help media={item.media_type} open={dialog === "help"} close={() => setDialog("")} />
      <Skip open={dialog === "skip"} close={() => setDialog("")} skip={(reason) => work.skip(item, reason)} escalate={(reason) => work.escalate(item, reason)} />
    </div>
  );
}

function soundKeys(sound: { current: SoundCommand | null }): Record<string, () => void> {
  return {
    " ": () => sound.current?.toggle(), ArrowLeft: () => sound.current?.seek(-0.5), ArrowRight: () => sound.current?.seek(0.5), m: () => sound.current?.mark(),
    o: () => sound.current?.loop(), ",": () => sound.current?.speed(-1), ".": () => sound.current?.speed(1), j: () => sound.current?.word(-1), k: () => sound.current?.word(1),
  };
}

/** The draft, and a way to read it that is not behind: keys may come faster than the page is drawn. */
function useDraft(item: ReviewItem): [Draft, (draft: Draft) => void, () => Draft] {
  const [draft, setState] = useState<Draft>(() => kept(item) ?? opened(item));
  const now = useRef(draft);
  const set = (next: Draft) => {
    now.current = next;
    keep(item, next);
    setState(next);
  };
  return [draft, set, () => now.current];
}

/** The key belongs to a field or a button, not to the page. */
function typing(event: KeyboardEvent): boolean {
  const target = event.target;
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement || target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement) {
    if (event.key === "Enter") return event.shiftKey && target instanceof HTMLTextAreaElement; // a new line
    return (target.type !== "range" || event.key.startsWith("Arrow"));
  }
  return (event.key === "Enter" || event.key === " ") && target.closest("button, a, summary") !== null;
}
