// The last other photo with a label, beside the one to judge, under the same zoom and light.

import { useEffect, useState } from "preact/hooks";
import { Fault, get, getBlob } from "../api";
import { ago } from "../format";
import type { ReviewItem } from "../types";
import type { View } from "./boxes";
import { path } from "./work";

type Found = { item: string | null; resolved_us?: number; same_unit?: boolean };
type Props = { item: ReviewItem; view: View; filter: string };

export function Beside({ item, view, filter }: Props) {
  const [label, setLabel] = useState(item.labels[0] ?? "");
  const [found, setFound] = useState<Found | null>(null);
  const [src, setSrc] = useState("");
  const [fault, setFault] = useState("");
  useEffect(() => {
    let live = true;
    let url = "";
    setSrc("");
    setFault("");
    setFound(null);
    const load = async () => {
      const one = await get<Found>(`${path(item)}/beside?label=${encodeURIComponent(label)}`);
      if (live) setFound(one);
      if (!one.item || !live) return;
      url = URL.createObjectURL(await getBlob(`/api/reviews/${encodeURIComponent(one.item)}/media`));
      if (live) setSrc(url);
    };
    load().catch((error) => live && setFault(error instanceof Fault ? error.message : String(error)));
    return () => {
      live = false;
      if (url) URL.revokeObjectURL(url);
    };
  }, [item.item, label]);
  return (
    <figure class="stage beside">
      {src && <div class="stage-plane" style={{ transform: `translate(${view.x}px, ${view.y}px) scale(${view.scale})` }}><img src={src} alt={`The last one that was ${label}`} draggable={false} style={{ filter }} /></div>}
      <figcaption>
        <label class="inline">Last <select value={label} onChange={(e) => setLabel(e.currentTarget.value)}>{item.labels.map((l) => <option key={l}>{l}</option>)}</select></label>
        <span role="status">{fault || (found === null ? "is being fetched …" : !found.item ? "none was kept yet" : `${ago(found.resolved_us!, Date.now() * 1000)}${found.same_unit ? ", same unit" : ""}`)}</span>
      </figcaption>
    </figure>
  );
}
