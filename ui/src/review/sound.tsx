// A clip: its waveform, drawn by the server from the very samples that are played, and the words the model heard.

import type { RefObject } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Box } from "../types";
import { clock, column, peaked, type Outline, type Span } from "./wave";

export type SoundCommand = { toggle(): void; seek(by: number): void; mark(): void; loop(): void; speed(by: number): void; word(step: number): void };
type Props = { src: string; outline: Outline | null; words: Box[]; command: RefObject<SoundCommand | null> };
const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];
const DOUBTFUL = 0.6;

export function Sound({ src, outline, words, command }: Props) {
  const audio = useRef<HTMLAudioElement>(null);
  const [at, setAt] = useState(0);
  const [playing, setPlaying] = useState(false);
  const [rate, setRate] = useState(1);
  const [span, setSpan] = useState<Span | null>(null);
  const [mark, setMark] = useState<number | null>(null);
  const drag = useRef<number | null>(null);
  const total = outline ? outline.samples / outline.rate : (audio.current?.duration ?? 0);

  const go = (to: number) => {
    const player = audio.current!;
    player.currentTime = Math.min(total, Math.max(0, to));
    setAt(player.currentTime);
  };
  const toggle = () => {
    const player = audio.current!;
    if (!player.paused) return player.pause();
    if (span && (player.currentTime < span.from || player.currentTime >= span.to)) go(span.from);
    void player.play().catch(() => {});
  };
  const faster = (by: number) => setRate((was) => SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, SPEEDS.indexOf(was) + by))]!);
  const word = (step: number) => {
    const starts = words.map((w) => w.x1);
    const next = step > 0 ? starts.find((s) => s > at + 0.01) : starts.filter((s) => s < at - 0.05).at(-1);
    if (next !== undefined) go(next);
  };
  const setMarkHere = () => {
    const here = audio.current!.currentTime;
    if (mark === null) return setMark(here);
    if (Math.abs(here - mark) > 0.02) setSpan({ from: Math.min(mark, here), to: Math.max(mark, here) });
    setMark(null);
  };
  const loop = () => {
    setSpan(null);
    setMark(null);
  };
  command.current = { toggle, seek: (by) => go(audio.current!.currentTime + by), mark: setMarkHere, loop, speed: faster, word };

  useEffect(() => {
    audio.current!.playbackRate = rate;
    audio.current!.preservesPitch = true;
  }, [rate, src]);
  useEffect(() => {
    if (!playing) return;
    let frame = 0;
    const step = () => {
      const player = audio.current;
      if (!player) return;
      if (span && player.currentTime >= span.to) player.currentTime = span.from;
      setAt(player.currentTime);
      frame = requestAnimationFrame(step);
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, [playing, span]);

  const time = (e: PointerEvent) => {
    const edge = (e.currentTarget as Element).getBoundingClientRect();
    return Math.min(1, Math.max(0, (e.clientX - edge.left) / edge.width)) * total;
  };
  const down = (e: PointerEvent) => {
    (e.currentTarget as Element).setPointerCapture(e.pointerId);
    drag.current = time(e);
  };
  const move = (e: PointerEvent) => {
    const from = drag.current;
    const to = time(e);
    if (from !== null && Math.abs(to - from) > total / 100) setSpan({ from: Math.min(from, to), to: Math.max(from, to) });
  };
  const up = (e: PointerEvent) => {
    const from = drag.current;
    drag.current = null;
    if (from !== null) go(Math.abs(time(e) - from) > total / 100 ? Math.min(from, time(e)) : from);
  };
  const ended = () => {
    if (!span) return setPlaying(false);
    go(span.from); // the loop reached the end of the clip
    void audio.current!.play().catch(() => {});
  };
  const now = words.findIndex((w) => at >= w.x1 && at < w.x2);
  const pct = (seconds: number) => `${total ? (100 * seconds) / total : 0}%`;
  return (
    <div class="sound">
      <audio ref={audio} src={src} preload="auto" onPlay={() => setPlaying(true)} onPause={() => setPlaying(false)} onEnded={ended} onTimeUpdate={(e) => setAt(e.currentTarget.currentTime)} />
      <div class="wave" onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerCancel={() => (drag.current = null)}
        role="slider" tabIndex={0} aria-label="Position in the clip" aria-valuemin={0} aria-valuemax={Number(total.toFixed(2))} aria-valuenow={Number(at.toFixed(2))} aria-valuetext={`${clock(at)} of ${clock(total)}`}>
        <Wave outline={outline} />
        {words.map((w, i) => (w.confidence ?? 1) < DOUBTFUL && <i key={i} class="doubt" style={{ left: pct(w.x1), width: pct(w.x2 - w.x1) }} />)}
        {span && <i class="span" style={{ left: pct(span.from), width: pct(span.to - span.from) }} />}
        {mark !== null && <i class="mark" style={{ left: pct(mark) }} />}
        <i class="head" style={{ left: pct(at) }} />
      </div>
      <div class="row">
        <button class="primary" onClick={toggle}>{playing ? "Pause" : "Play"} <kbd>Space</kbd></button>
        <span class="mono" data-testid="clock">{clock(at)} / {clock(total)}</span>
        <label class="inline">Speed
          <select value={String(rate)} onChange={(e) => setRate(Number(e.currentTarget.value))}>{SPEEDS.map((s) => <option key={s} value={String(s)}>{s}×</option>)}</select>
        </label>
        {span && <span class="quiet">Loop {clock(span.from)}–{clock(span.to)}</span>}
        <button onClick={span || mark !== null ? loop : setMarkHere}>{span || mark !== null ? "No loop" : "Loop from here"} <kbd>{span || mark !== null ? "O" : "M"}</kbd></button>
        {mark !== null && <button onClick={setMarkHere}>Loop to here <kbd>M</kbd></button>}
      </div>
      {words.length > 0 && (
        <p class="words" aria-label="Words that the model heard; press one to hear it">
          {words.map((w, i) => {
            const doubt = (w.confidence ?? 1) < DOUBTFUL;
            return (
              <button key={i} class={`plain ${doubt ? "doubtful" : ""} ${i === now ? "now" : ""}`} title={w.confidence != null ? `${Math.round(w.confidence * 100)} % sure` : undefined} onClick={() => go(w.x1)}>
                {w.label}{doubt && <span class="sr"> (not sure)</span>}
              </button>
            );
          })}
        </p>
      )}
    </div>
  );
}

/** The outline as one path; redrawn only when another clip comes. */
function Wave({ outline }: { outline: Outline | null }) {
  if (!outline) return <p class="quiet pad" role="status">The waveform is being fetched …</p>;
  const n = outline.low.length;
  const gain = 0.95 / peaked(outline);
  return (
    <svg viewBox={`0 -1 ${n} 2`} preserveAspectRatio="none" aria-hidden="true">
      <path d={outline.low.map((_l, i) => column(outline, i, gain)).join("")} />
    </svg>
  );
}
