// A text or a record, as fields.

import { value, words } from "../format";
import type { ReviewItem } from "../types";

export function Fields({ item }: { item: ReviewItem }) {
  const record = item.record;
  if (typeof record === "string") return <blockquote class="text-item">{record}</blockquote>;
  if (record && typeof record === "object") {
    return (
      <dl class="record">
        {Object.entries(record).map(([name, v]) => (
          <div key={name}><dt>{words(name)}</dt><dd class={v == null ? "missing" : ""}>{v == null ? "missing" : value(v)}</dd></div>
        ))}
      </dl>
    );
  }
  return <p class="notice warn">The input of this item was not kept. Skip it with that reason.</p>;
}
